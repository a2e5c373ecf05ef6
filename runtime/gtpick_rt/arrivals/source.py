"""What every source of micrographs offers to the pipeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.records import Failure

Arrival = Job | Failure

WAITING = "Waiting"
"""`Failure.kind` of a mere notice: what is watched is not there yet. Nothing has failed."""

TICK_S = 0.2
"""A source gives at least this often a sign, so that its consumer can see to other things."""


@dataclass(frozen=True)
class Timing:
    """How patient a source is, in seconds of our own clock."""

    settle_s: float = 2.0
    """How long a file must stay as it is to be taken for whole."""
    max_wait_s: float = 600.0
    """After which a file that stays incomplete is reported; it is watched still."""
    poll_s: float = 1.0
    """Shortest pause between two looks at the same folder or file."""
    longest_s: float = 30.0
    """Longest pause, to which the pauses grow where looking is slow or in vain."""


DEFAULT_TIMING = Timing()


class Source(Protocol):
    """Where micrographs come from.

    One thread iterates; `again` and `done` may be called from any.
    """

    live: bool
    """Whether files may come and go, so that one that is gone is no failure."""

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet; may be asked in any thread."""
        ...

    def __iter__(self) -> Iterator[Arrival | None]:
        """What arrives, until the source is exhausted and everything that it gave is done.

        A Job is ready to be picked. A Failure is to be reported; its file stays watched and may
        come as a Job later. None tells that there is nothing at the moment. Who iterates once more
        goes on where the last one ended.
        """
        ...

    def again(self, job: Job, after_s: float) -> None:
        """Give a job back, to have it once more, not before `after_s`; of a live source, once its
        file is there.
        """
        ...

    def retry(self, stem: str) -> None:
        """Give the micrograph of this stem once more, if nothing more was to be done with it; for
        who iterates.
        """
        ...

    def done(self, job: Job) -> None:
        """Say that nothing more will be done with a job: it is picked, or has failed for good."""
        ...
