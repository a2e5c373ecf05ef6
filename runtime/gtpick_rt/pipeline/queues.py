"""Short queues that hand things from one thread to the next, and end when either side does."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_TICK_S = 0.2


class ConsumerGoneError(Exception):
    """The thread at the other end of the belt has left."""


class BoundedQueue(Generic[T]):
    """Hands items from one or several threads to others, at most `ahead` of them waiting."""

    def __init__(self, ahead: int, givers: int = 1) -> None:
        self._queue: queue.Queue[T] = queue.Queue(ahead)
        self._ended, self._left = threading.Event(), threading.Event()
        self._givers = givers
        self._lock = threading.Lock()

    def put(self, item: T) -> None:
        """Hand over an item; waits while too many wait. Raises ConsumerGoneError once the taker has left."""
        while not self._left.is_set():
            try:
                return self._queue.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
        raise ConsumerGoneError

    def end(self) -> None:
        """Say that no more items will come; each of the givers says so."""
        with self._lock:
            self._givers -= 1
            if self._givers == 0:
                self._ended.set()

    def leave(self) -> None:
        """Say that no more items will be taken."""
        self._left.set()

    @property
    def is_through(self) -> bool:
        """Whether all was taken, and no more will come."""
        return self._ended.is_set() and self._queue.empty()

    def at_once(self) -> T | None:
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
