"""From a micrograph to its picks: preprocess, tile, infer, decode, merge; and what a survey tells
beforehand.

In come a `Micrograph`, a `ModelSpec` and a `Backend`, out come `Picks`. No file is read or written,
and no library for inference imported: which backend it is, is none of its business.
"""
