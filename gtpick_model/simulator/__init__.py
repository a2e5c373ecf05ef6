"""Simulated micrographs with exact labels: structures -> views -> packing -> specimen -> optics ->
noise -> look.
"""
