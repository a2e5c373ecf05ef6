"""Bounded queues between threads, which end when either side does."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_TICK_S = 0.2


class ConsumerGoneError(Exception):
    """Nobody takes items from the queue any more."""


class BoundedQueue(Generic[T]):
    """A queue of at most `size` items, from one or several producers to their consumers."""

    def __init__(self, size: int, producers: int = 1) -> None:
        self._queue: queue.Queue[T] = queue.Queue(size)
        self._ended, self._abandoned = threading.Event(), threading.Event()
        self._producers = producers
        self._lock = threading.Lock()

    def put(self, item: T) -> None:
        """Add an item; waits while the queue is full.

        Raises ConsumerGoneError once it is abandoned.
        """
        while not self._abandoned.is_set():
            try:
                return self._queue.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
        raise ConsumerGoneError

    def end(self) -> None:
        """Say that no more items will come; each of the producers says so."""
        with self._lock:
            self._producers -= 1
            if self._producers == 0:
                self._ended.set()

    def abandon(self) -> None:
        """Say that no more items will be taken."""
        self._abandoned.set()

    @property
    def is_finished(self) -> bool:
        """Whether all was taken, and no more will come."""
        return self._ended.is_set() and self._queue.empty()

    def get(self) -> T | None:
        """An item, for which a while is waited; None where there has been none."""
        try:
            return self._queue.get(timeout=0 if self._ended.is_set() else _TICK_S)
        except queue.Empty:
            return None

    def get_nowait(self) -> T | None:
        """An item that waits now, None where there is none."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def __iter__(self) -> Iterator[T | None]:
        """Each item in turn, and None whenever there has been none for a while; to the end."""
        while True:
            ended = self._ended.is_set()
            try:
                yield self._queue.get(timeout=0 if ended else _TICK_S)
            except queue.Empty:
                if ended:
                    return
                yield None
