"""Micrographs that are all there from the beginning."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import TICK_S, Arrival
from gtpick_rt.arrivals.stamp import stamp_if_there
from gtpick_rt.records import Failure


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


def unfinished(jobs: Sequence[Job], finished: Mapping[str, tuple[int, int]]) -> list[Job]:
    """Those that an earlier run has not picked, or whose file has changed since; see
    `OutputFolder.finished`.
    """
    return [job for job in jobs if str(job.stem) not in finished or _content(job) != finished[str(job.stem)]]


def _content(job: Job) -> tuple[int, int] | None:
    stamp = stamp_if_there(job.path)
    return None if stamp is None else (stamp.size, stamp.mtime_ns)
