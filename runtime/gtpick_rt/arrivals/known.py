"""The files that the watcher knows: those that it waits for, and those that it has given."""

from dataclasses import dataclass

from gtpick_rt.arrivals.ready import Candidate
from gtpick_rt.arrivals.stamp import Stamp
from gtpick_rt.arrivals.watched_inputs import WatchedInput


@dataclass(frozen=True, slots=True)
class Given:
    """A file that was given, or that an earlier run has picked."""

    origin: WatchedInput
    size: int
    mtime_ns: int
    inode: int | None
    """None of an earlier run."""

    def is_still(self, stamp: Stamp) -> bool:
        """Whether the file is as it was."""
        same = (self.size, self.mtime_ns) == (stamp.size, stamp.mtime_ns)
        return same and self.inode in (None, stamp.inode)


@dataclass(slots=True, kw_only=True)
class Awaited(Candidate):
    """A file that will be given once it is ready."""

    origin: WatchedInput
