"""The output folder of a run: commits, index, lock, lists, pictures, and files for other programs.

In come `Picks` and records, out come files that are whole or absent. Nothing of backends, pipelines
or commands may be imported here.
"""
