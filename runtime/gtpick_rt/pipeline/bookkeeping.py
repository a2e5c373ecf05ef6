"""What becomes of the micrographs of a run, wherever they are picked: noted, logged, listed, told,
or tried again.
"""

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import WAITING, Source
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.errors import UnwritableError, UsageError
from gtpick_rt.output.converting import convert
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.pick_files import BlockedError
from gtpick_rt.output.retrying import Requests
from gtpick_rt.output.summary import Summary
from gtpick_rt.records import Failure, Record

TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.EHOSTDOWN)
"""What a network file system says while a server is away."""
AGAIN_S = 30.0
"""After which a micrograph is tried again that could not be read or written, and a full disk is
tried again."""
CHANGED_S = 2.0
"""After which a micrograph is read again that changed while it was read."""
_ROUNDS = 5
"""Times that a micrograph is tried again before it counts as failed."""
DEADLINE_S = 300.0
"""Within which every stage must be through with a micrograph."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """What is called as micrographs are picked, in any of the run's threads."""

    done: Callable[[Record], None] = lambda record: None
    """With the record of each micrograph, in order."""
    notice: Callable[[str], None] = lambda text: None
    """With what the user should know of the run as a whole."""
    log: Callable[[Mapping[str, Any]], None] = lambda entry: None
    """With each entry of the log."""


class Bookkeeping:
    """Keeps the books of one run.

    One thread takes `arrivals`; one calls `settle`, `report` and what writes lists.

    Args:
        source: brings the micrographs.
        output: the folder that takes them, which has begun.
        head: gives what the summary says beside the counts that are kept here.
        listeners: are told.
        stop: once set, no other micrograph is begun, and nothing more is waited for.
        deadline_s: within which the disk must answer.

    """

    def __init__(
        self,
        source: Source,
        output: OutputFolder,
        head: Callable[[], Summary],
        listeners: Listeners,
        stop: threading.Event,
        deadline_s: float,
    ) -> None:
        self.source, self.output, self.stop, self.deadline_s = source, output, stop, deadline_s
        self.listeners, self._head = listeners, head
        self._writing, self._blocked = DeadlineThread("gtpick-books"), threading.Event()
        self._requests = Requests(output.path, output.holds)
        self._rounds: Counter[Job] = Counter()
        self._picked = self._failed = self._picks = 0
        self._stage_seconds = Counter[str](head().stage_seconds)
        self._began = time.perf_counter()

    def summary(self) -> Summary:
        """What is done so far."""
        return replace(
            self._head(),
            seconds=time.perf_counter() - self._began,
            stage_seconds=dict(self._stage_seconds),
            picked=self._picked,
            totals=self.output.totals,
            backlog=self.source.backlog,
            adaptation=self.output.adaptation,
        )

    def arrivals(self) -> Iterator[Job | Failure | None]:
        """What the source brings, to its end or to `stop`.

        None tells that there is nothing at the moment.
        """
        for arrival in self.source:
            if self.stop.is_set():
                return
            for stem in self._requests.take():
                self.source.retry(stem)
            yield arrival

    def is_left(self, job: Job, reason: str, number: int | None, changed: bool) -> bool:
        """Whether a micrograph that was not picked goes no further now: it is gone, or will come
        again.

        `number` is the operating system's of the error, if any; `changed` says that the file
        changed while it was read.
        """
        missing = number == errno.ENOENT and self.source.live
        if missing and not os.path.lexists(job.path):  # it may be its mask, or a node that does not see it
            self.log(state="gone", path=str(job.path))
            self.source.again(job, 0.0)
            return True
        if changed:
            return self.comes_again(job, reason, CHANGED_S)
        return (missing or number in TRANSIENT) and self.comes_again(job, reason)

    def comes_again(self, job: Job, reason: str, after_s: float | None = None) -> bool:
        """Give a micrograph back to the source; False when that was done often enough."""
        if self._rounds[job] >= _ROUNDS:
            return False
        self._rounds[job] += 1
        self.log(state="again", path=str(job.path), message=reason)
        self.source.again(job, AGAIN_S if after_s is None else after_s)
        return True

    def report(self, failure: Failure) -> None:
        """Tell what went wrong before a micrograph could be read; or that something is
        waited for.
        """
        if failure.kind == WAITING:
            self.log(state="waiting", path=failure.path, message=failure.message)
            self.listeners.notice(failure.message)
        else:
            self.when_possible(partial(self.output.report, failure))
            self._tell(failure)

    def settle(
        self, job: Job, record: Record, seconds: Mapping[str, float], lag_s: float | None = None, **figures: object
    ) -> None:
        """Note a micrograph whose picks are committed, or that failed for good.

        `seconds` of each stage; `lag_s`, from ready micrograph to STAR file, is noted only where a
        microscope is followed.
        """
        if self.source.live and lag_s is not None:
            figures["lag_s"] = lag_s
        if isinstance(record, Failure):
            self.when_possible(partial(self.output.fail, record))
        else:
            self.when_possible(partial(self.output.note, record))
        self._stage_seconds.update(seconds)
        del self._rounds[job]
        self.source.done(job)
        self._tell(record, stage_seconds=dict(seconds), **figures)

    def _tell(self, record: Record, **figures: object) -> None:
        if isinstance(record, Failure):
            state, self._failed = "failed", self._failed + 1
        else:
            state, self._picked, self._picks = "picked", self._picked + 1, self._picks + record.picks
        self.log(state=state, **vars(record), **figures)
        self.listeners.done(record)

    def log(self, **entry: object) -> None:
        """Append to the log, and tell."""
        entry["backlog"] = self.source.backlog
        self.output.log(**entry)
        self.listeners.log(entry)

    def when_possible(self, write: Callable[[], T], thread: DeadlineThread | None = None) -> T:
        """Write, in the `thread` of who calls; while the disk is full or fails, wait and try again.

        Raises UsageError when `stop` ends the wait.
        """
        while True:
            try:
                written = self._on_disk(write, thread)
                self._blocked.clear()
                return written
            except (BlockedError, UnwritableError) as error:
                if not self._blocked.is_set():  # one of several who write tells it
                    self._blocked.set()
                    self.listeners.notice(f"{error}: waiting until it can be written to")
                if self.stop.wait(AGAIN_S):
                    raise UsageError(f"{error}: free space and run again") from error

    def _on_disk(self, write: Callable[[], T], thread: DeadlineThread | None = None) -> T:
        try:
            return (thread or self._writing).call(write, self.deadline_s)
        except TimeoutError:
            raise UsageError(f"{self.output.path}: the disk does not answer; run again when it does") from None

    def write_lists_when_due(self) -> None:
        """Keep the lists current; where that fails they are written later, and at the end for
        certain.
        """
        if self.output.lists_due:
            with suppress(BlockedError, UnwritableError):
                self._write_lists()

    def _write_lists(self) -> None:
        self._on_disk(lambda: self.output.write_lists(self.summary()))

    def convert(self) -> None:
        """Complete what the folder has in other formats; of runs that share it, the last to end
        does that for all.
        """
        for failure in convert(self.output) if self.output.alone else ():
            self.output.report(failure)
            self.listeners.notice(f"not converted: {failure.message}")

    def end(self) -> None:
        """Write the lists for the last time, and what the run has come to into the log. Raises
        UsageError when that cannot be done.
        """
        self.output.hold.end()
        try:
            self._write_lists()
            self._on_disk(self._log_end)
        except BlockedError as error:
            raise UsageError(f"{error}: free space and run again") from error
        except UnwritableError as error:
            raise UsageError(f"{error}; the picks are whole") from error
        finally:
            self._writing.close()

    def _log_end(self) -> None:
        self.output.log(
            state="ended",
            picked=self._picked,
            failed=self._failed,
            picks=self._picks,
            seconds=time.perf_counter() - self._began,
            backlog=self.source.backlog,
        )
