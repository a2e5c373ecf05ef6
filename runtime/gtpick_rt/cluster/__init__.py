"""Picking in several processes, on one machine or many, by Dask: each worker commits what it picks by itself.

A worker may die, and what it had in hand is then picked by another: the commit of a micrograph is atomic, so that is
harmless. What decides, lists and logs is the one process that holds the output folder.
"""
