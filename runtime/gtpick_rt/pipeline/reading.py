"""Threads that read side by side, and hand on in the order of arrival."""

from functools import partial
from itertools import count

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.errors import HungError, UsageError, text_of
from gtpick_rt.pipeline.bookkeeping import TRANSIENT, Bookkeeping
from gtpick_rt.pipeline.ordering import InOrder
from gtpick_rt.pipeline.queues import BoundedQueue
from gtpick_rt.pipeline.stages import Item, Stages
from gtpick_rt.records import Failure

AHEAD = 2
"""Items that may wait between two threads."""
_TRIES_S = (0.5, 2.0)
"""Pauses between attempts to read when a file system fails."""
_MOST_HANGING = 3
"""Micrographs in a row that may hang in reading before the run gives up: then it is the disk."""


class Reading:
    """Reads what arrives in so many threads, each of which calls `read`, and one `arrive`."""

    def __init__(self, stages: Stages, bookkeeping: Bookkeeping, readers: int) -> None:
        self.stages, self.bookkeeping, self.stop = stages, bookkeeping, bookkeeping.stop
        self.threads = [DeadlineThread(f"gtpick-reading-{number}") for number in range(readers)]
        self.arrived: BoundedQueue[tuple[int, Job | Failure]] = BoundedQueue(AHEAD)
        self.done: BoundedQueue[Item | Failure] = BoundedQueue(AHEAD * readers, producers=readers)
        self._order = InOrder()
        self._hanging = 0

    def arrive(self) -> None:
        """Number what arrives, to the end of the source or to `stop`."""
        numbers = count()
        for arrival in self.bookkeeping.arrivals():
            if arrival is not None:
                self.arrived.put((next(numbers), arrival))

    def read(self, reader: DeadlineThread) -> None:
        """Read, to the end of what arrives. Raises UsageError when the disk hangs."""
        for arrival in self.arrived:
            if arrival is not None:
                self._read_in_order(reader, *arrival)

    def _read_in_order(self, reader: DeadlineThread, number: int, arrival: Job | Failure) -> None:
        read: Item | Failure | None = None
        try:
            if isinstance(arrival, Failure):
                read = arrival
            elif not self.stop.is_set():
                item = self._read_with_retries(reader, arrival)
                is_left = self.bookkeeping.is_left(item.job, text_of(item.error), item.errno, item.changed)
                read = None if is_left else item
        finally:
            with self._order.turn(number):
                if read is not None:
                    self.done.put(read)

    def _read_with_retries(self, reader: DeadlineThread, job: Job) -> Item:
        """Read; and read again after pauses when the file system fails."""
        for pause_s in (*_TRIES_S, 0.0):
            try:
                item = reader.call(partial(self.stages.read, job), self.bookkeeping.deadline_s)
                self._hanging = 0
            except TimeoutError:
                self._hanging += 1
                if self._hanging > _MOST_HANGING:
                    raise UsageError(f"{job.path}: the disk does not answer; the run ends, run it again") from None
                within = f"{self.bookkeeping.deadline_s:g} s"
                item = Item(job, error=HungError(f"{job.path}: reading did not end in {within}; copy it"))
            if item.errno not in TRANSIENT or self.stop.wait(pause_s):
                break
        return item
