"""The files that the watcher knows: those that it waits for, and those that it has given."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gtpick_rt.arrivals.jobs import Job, failure_of
from gtpick_rt.arrivals.ready import Candidate
from gtpick_rt.arrivals.stamp import Stamp
from gtpick_rt.arrivals.watched_inputs import WatchedInput
from gtpick_rt.errors import UsageError
from gtpick_rt.reading.info import fault_of_name
from gtpick_rt.records import Failure, quoted

RECHECKED = 1000
"""Files that were given before and are looked at again after each search."""


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


def job_of(origin: WatchedInput, path: str) -> Job | Failure:
    """The job of a file that was found, or why it cannot become a micrograph."""
    try:
        job = origin.job(path)
    except UsageError as error:
        return failure_of(path, str(error))
    fault = fault_of_name(job.path)
    return failure_of(path, f"{quoted(path)}: the file name {fault}; rename the file") if fault else job


def unpicked(awaited: Sequence[Candidate]) -> str:
    """Say which files a run leaves without picks, and the way out; there must be some."""
    lacking = sorted(each.lack for each in awaited if each.lack)
    first = (lacking or sorted(str(each.job.path) for each in awaited))[0]
    number = f"{len(awaited)} files, first " if len(awaited) > 1 else ""
    once = " once whole" if lacking else ""
    return f"not picked yet: {number}{first}; the same command again picks what is left{once}"


class Rounds:
    """Whose turn it is, of the files that were given, to be looked at again."""

    def __init__(self) -> None:
        self.unchecked: deque[str] = deque()
        """Finished by an earlier run, but perhaps changed since: they come first."""
        self._round: Iterator[str] = iter(())

    def some(self, seen: Mapping[str, Awaited | Given | None]) -> Iterator[tuple[str, Given]]:
        """The next ones, with their paths."""
        for _ in range(RECHECKED):
            path = self.unchecked.popleft() if self.unchecked else next(self._round, None)
            if path is None:
                self._round = iter(list(seen))
                return
            given = seen.get(path)
            if isinstance(given, Given):
                yield path, given
