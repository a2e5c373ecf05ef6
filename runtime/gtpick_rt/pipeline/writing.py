"""Threads that commit side by side; the books are kept in the order of arrival."""

import threading
from functools import partial
from itertools import count

from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.errors import text_of
from gtpick_rt.pipeline.bookkeeping import TRANSIENT, Bookkeeping
from gtpick_rt.pipeline.ordering import InOrder
from gtpick_rt.pipeline.queues import BoundedQueue
from gtpick_rt.pipeline.reading import AHEAD
from gtpick_rt.pipeline.stages import Item, Stages
from gtpick_rt.records import Failure, Record


class Writing:
    """Commits what the network has seen in so many threads, each of which calls `write`."""

    def __init__(self, stages: Stages, bookkeeping: Bookkeeping, writers: int) -> None:
        self.stages, self.bookkeeping = stages, bookkeeping
        self.threads = [DeadlineThread(f"gtpick-writing-{number}") for number in range(writers)]
        self.detected: BoundedQueue[tuple[int, Item | Failure]] = BoundedQueue(AHEAD * writers)
        self._numbers, self._order, self._books = count(), InOrder(), threading.Lock()

    def put(self, item: Item | Failure) -> None:
        """Take what the network has seen, or what failed before, in order."""
        self.detected.put((next(self._numbers), item))

    def write(self, writer: DeadlineThread) -> None:
        """Write, to the end of what is detected. Raises UsageError."""
        for each in self.detected:
            if each is not None:
                self._write_in_order(writer, *each)
            with self._books:
                self.bookkeeping.write_lists_when_due()

    def _write_in_order(self, writer: DeadlineThread, number: int, item: Item | Failure) -> None:
        record: Record | None = None
        try:
            if isinstance(item, Item):
                record = self.bookkeeping.when_possible(partial(self.stages.write, item), writer)
        finally:
            with self._order.turn(number), self._books:
                if isinstance(item, Failure):
                    self.bookkeeping.report(item)
                elif record is not None:
                    self._settle(item, record)

    def _settle(self, item: Item, record: Record) -> None:
        failed = isinstance(record, Failure)
        if failed and item.errno in TRANSIENT and self.bookkeeping.comes_again(item.job, text_of(item.error)):
            return
        self.bookkeeping.settle(item.job, record, item.seconds, lag_s=item.lag_s)
