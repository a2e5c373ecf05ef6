"""TensorRT engines: built from ONNX in this process, and kept for this user alone.

In comes an ONNX file, out come the plan and its record. An engine file is code: none is ever loaded
that this user did not build here, see `cache`. Nothing of picks or micrographs may be imported
here.
"""
