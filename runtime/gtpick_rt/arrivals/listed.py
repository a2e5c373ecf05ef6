"""Micrographs that are all there from the beginning."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import TICK_S, Arrival
from gtpick_rt.arrivals.stamp import Stamp, stamp_if_there
from gtpick_rt.reading.masks import mask_beside
from gtpick_rt.records import Failure, PickedFrom


class Listed:
    """The source of a batch: the failures and jobs as given, then the jobs that came back, until
    all are done.
    """

    live = False

    def __init__(
        self,
        jobs: Sequence[Job],
        failures: Sequence[Failure] = (),
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._wait = clock, wait
        self._to_come: deque[Arrival] = deque([*failures, *jobs])
        self._returned: deque[tuple[float, Job]] = deque()
        self._open = len(jobs)
        self._done: list[Job] = []  # a list may grow while it is searched, a deque not

    @property
    def backlog(self) -> int:
        """How many micrographs are not done yet."""
        return self._open - len(self._done)

    def again(self, job: Job, after_s: float) -> None:
        """Give a job back, to have it once more, not before `after_s`."""
        self._returned.append((self._clock() + after_s, job))

    def retry(self, stem: str) -> None:
        """Give a job once more that is done."""
        job = next((job for job in self._done if str(job.stem) == stem), None)
        if job is not None:
            self._open += 1
            self._returned.append((self._clock(), job))

    def done(self, job: Job) -> None:
        """Say that nothing more will be done with a job."""
        self._done.append(job)

    def __iter__(self) -> Iterator[Arrival | None]:
        while self._to_come:
            yield self._to_come.popleft()
        while len(self._done) < self._open:
            for _ in range(len(self._returned)):
                due, job = self._returned.popleft()
                if due <= self._clock():
                    yield job
                else:
                    self._returned.append((due, job))
            self._wait(TICK_S / 4)
            yield None


class Compared(NamedTuple):
    """Micrographs beside what an earlier run has picked."""

    todo: list[Job]
    """Not picked yet, or their file, their mask or the pixel size in their list has changed
    since."""
    missing: list[Job]
    """Picked, but their file cannot be looked at now."""
    renamed: list[Job]
    """Picked, and lists would call them otherwise now, as in another current folder."""


def compare(jobs: Sequence[Job], finished: Mapping[str, PickedFrom], masks: Path | None = None) -> Compared:
    """See what is left to do; `finished` as of `OutputFolder`, `masks` is the folder of masks."""
    todo, missing, renamed = list[Job](), list[Job](), list[Job]()
    for job in jobs:
        before = finished.get(str(job.stem))
        stamp = None if before is None else stamp_if_there(job.path)
        if before is None:
            todo.append(job)
        elif stamp is None:
            missing.append(job)
        elif not _is_still(job, stamp, before, masks):
            todo.append(job)
        elif before.name not in (None, job.name):
            renamed.append(job)
    return Compared(todo, missing, renamed)


def _is_still(job: Job, stamp: Stamp, before: PickedFrom, masks: Path | None) -> bool:
    """Whether all from which a micrograph was picked is as it was."""
    if (stamp.size, stamp.mtime_ns) != (before.size, before.mtime_ns) or not before.is_at(job.pixel_size_A):
        return False
    own = None if masks is None else mask_beside(masks, str(job.stem))
    mask = None if own is None else stamp_if_there(own)
    return masks is None or before.mask_mtime_ns == (None if mask is None else mask.mtime_ns)
