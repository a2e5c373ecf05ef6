"""Model files and what they say of themselves.

In comes a name or a path, out come the ONNX file and its `ModelSpec`; the files that ship lie here
too. No inference library may be imported here.
"""
