"""Files as such: written whole or not at all, and read while others write.

In come paths and bytes, out come paths and bytes. Nothing of micrographs, picks or models may be
imported here.
"""
