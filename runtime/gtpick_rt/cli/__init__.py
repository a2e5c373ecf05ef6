"""The command line, one module per command; modules import what they need when they run, so that it
starts fast.

In come arguments, out come text and exit codes. Nothing may import from here but the entry points.
"""
