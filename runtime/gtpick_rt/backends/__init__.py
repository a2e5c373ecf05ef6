"""Inference: tiles in, scores and boxes out, by whichever library; each is imported when it is
used.

A backend knows a model file, tiles and devices. It must import nothing of picks or micrographs, and
it does not judge itself: that is done in `proof`.
"""
