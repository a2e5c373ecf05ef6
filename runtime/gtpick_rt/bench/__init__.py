"""How fast picking is on this machine: each stage alone, and all of them together.

In come micrographs and a picker, out come rates. It runs the stages of `pipeline`; commands may not
be imported here.
"""
