"""Follow what becomes of an output folder, without ever hindering the run that writes it.

It is told from the run's log and summary. Nothing is locked; neither the micrographs nor the index are read.
"""

from gtpick_rt.following.records import Entry, Problem
from gtpick_rt.following.status import STATES, Status
from gtpick_rt.following.story import Story
from gtpick_rt.following.workers import WorkerStatus

__all__ = ["STATES", "Entry", "Problem", "Status", "Story", "WorkerStatus"]
