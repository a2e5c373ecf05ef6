"""Sources of micrographs: a list of them, or folders, STAR files and stdin that are watched."""

from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.arrivals.source import WAITING, Arrival, Source, Timing
from gtpick_rt.arrivals.stamp import Stamp, stamp_of
from gtpick_rt.arrivals.watched import Watched

__all__ = ["WAITING", "Arrival", "Listed", "Source", "Stamp", "Timing", "Watched", "stamp_of"]
