"""How fast picking is on this machine."""

from gtpick_rt.bench.measuring import BATCHES, Speed, measure
from gtpick_rt.bench.synthetic import write_synthetic

__all__ = ["BATCHES", "Speed", "measure", "write_synthetic"]
