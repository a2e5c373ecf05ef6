"""A web page that shows a run as it goes on; needs the extra monitor.

In comes an output folder, out come HTML, JSON and events. It knows the run by `following` alone:
pipelines and detection may not be imported here.
"""
