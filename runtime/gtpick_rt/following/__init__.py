"""What a run has done so far, told from the log and summary in its output folder, for monitor and
report.

In comes an output folder, which another process may be writing, out come entries, states, rates and
trends. Nothing is locked, and neither micrographs nor the index are read; pipelines and commands
may not be imported here.
"""
