"""One HTML file that tells a colleague how a run went; its modules need Jinja2, of the extra
monitor.

In comes an output folder, out comes the page. It knows the run by `following` alone: pipelines may
not be imported here.
"""
