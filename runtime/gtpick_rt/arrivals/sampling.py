"""Which micrographs of a run are looked at before it begins."""

import math
from collections.abc import Iterable, Iterator, Sequence

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.opening import open_job
from gtpick_rt.types import Micrograph

_MOST = 5
"""Micrographs at even distances that come first."""


def spread(jobs: Sequence[Job]) -> Iterator[Job]:
    """Micrographs from all over a run: a few at even distances, then those between."""
    step = math.ceil(len(jobs) / _MOST)
    return (job for start in range(step) for job in jobs[start::step])


def readable(jobs: Iterable[Job], pixel_size_A: float | None = None) -> Iterator[Micrograph]:
    """Read micrographs, of `pixel_size_A` where given; picking will name those that
    cannot be read.
    """
    for job in jobs:
        try:
            yield open_job(job, pixel_size_A)
        except Exception:  # noqa: S112 - whatever is wrong with one file, the run goes on
            continue
