"""Coordinate files and lists of micrographs as other programs write and read them, one module per
format.

In comes a file, out come centres in 0-based pixels of the micrograph or the micrographs that are
listed; and the other way round. Nothing of output folders, detection or arrivals may be imported
here.
"""
