"""One run in this process: threads and bounded queues between arrivals, detection and output.

In come a source, a picker and an output folder, out comes the `Summary`. Nothing of clusters or
commands may be imported here.
"""
