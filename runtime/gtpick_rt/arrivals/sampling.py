"""Which micrographs of a run are looked at before it begins."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.opening import open_job
from gtpick_rt.errors import as_own
from gtpick_rt.records import printable
from gtpick_rt.types import Micrograph

T = TypeVar("T")

_MOST = 5
"""Micrographs at even distances that come first."""


def spread(jobs: Sequence[T]) -> Iterator[T]:
    """Micrographs from all over a run: a few at even distances, then those between."""
    step = math.ceil(len(jobs) / _MOST)
    return (job for start in range(step) for job in jobs[start::step])


class Sample:
    """Those of some micrographs that can be read, of `pixel_size_A` where given, and what is wrong
    with the others; picking names each again.
    """

    def __init__(self, jobs: Iterable[Job], pixel_size_A: float | None = None) -> None:
        self._jobs, self._pixel_size_A = jobs, pixel_size_A
        self.read = 0
        self.unread: list[str] = []
        """What is wrong, by micrograph."""

    def __iter__(self) -> Iterator[Micrograph]:
        for job in self._jobs:
            try:
                micrograph = open_job(job, self._pixel_size_A)
            except Exception as error:  # whatever is wrong with one file, the run goes on
                self.unread.append(printable(str(as_own(error, job.path))))
            else:
                self.read += 1
                yield micrograph
