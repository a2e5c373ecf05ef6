"""The one place that decides whether a backend may be used, and that opens backends and pickers by
name.

In come a name and a model file, out comes a backend that picks a bundled sample as the reference
does. Nothing of output folders, pipelines or commands may be imported here.
"""
