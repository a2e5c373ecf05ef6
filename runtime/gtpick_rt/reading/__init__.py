"""Reading micrographs: in comes a path, out comes a `Micrograph` of finite float pixels.

Row 0 comes first, as in an MRC file, whatever the format. Headers are judged before anything of the
size that they claim is read. Nothing of arrivals, detection or output may be imported here.
"""
