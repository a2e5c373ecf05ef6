"""A page that tells a colleague how a run went; importing its modules needs Jinja2 (extra monitor)."""
