"""The thread that serves the network, several micrographs together and ahead of their answers."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from gtpick_rt.backends.base import MOST_AT_ONCE
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.errors import BackendError
from gtpick_rt.pipeline.queues import BoundedQueue
from gtpick_rt.pipeline.stages import Item, Shown, Stages
from gtpick_rt.records import Failure

_TOGETHER = MOST_AT_ONCE
"""Tiles from which no further micrograph joins those that are shown to the network together."""
_SHOWN = 2
"""Times that a device may be shown micrographs before its first answers are awaited: so it has the
next at hand when it is through with the last."""
T = TypeVar("T")


class Inferring:
    """Shows the network what is read.

    Args:
        stages: of the run.
        stop: once set, nothing more is shown.
        deadline_s: within which the device must answer.

    """

    def __init__(self, stages: Stages, stop: threading.Event, deadline_s: float) -> None:
        self._stages, self._stop, self._deadline_s = stages, stop, deadline_s
        self._thread = DeadlineThread("gtpick-inferring")
        # Where the processor computes, it is at work only while somebody waits for it.
        self._most = 1 if stages.picker.backend.on_cpu else _SHOWN

    def run(self, read: BoundedQueue[Item | Failure], hand_on: Callable[[Item | Failure], None]) -> None:
        """Take what is read, to its end, and hand it on in the same order, but for what was not
        shown when the run stopped.

        Raises BackendError, also when the device does not answer.
        """
        shown: deque[tuple[list[Item | Failure], Shown]] = deque()
        while shown or not read.is_finished:
            together = self._together(read, wait=not shown)
            if together:
                shown.append((together, self._show([item for item in together if isinstance(item, Item)])))
            if shown and (len(shown) == self._most or not together):
                self._hand_on(*shown.popleft(), hand_on)

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    def _together(self, read: BoundedQueue[Item | Failure], wait: bool) -> list[Item | Failure]:
        """What is read and not shown yet, up to a number of tiles; `wait` for the first, a
        while.
        """
        together = list[Item | Failure]()
        more = read.get() if wait else read.get_nowait()
        while more is not None:
            together.append(more)
            more = read.get_nowait() if sum(map(self._tiles, together)) < _TOGETHER else None
        return together

    def _tiles(self, item: Item | Failure) -> int:
        return self._stages.tiles(item) if isinstance(item, Item) else 0

    def _show(self, items: list[Item]) -> Shown:
        return self._in_time(partial(self._stages.show, [] if self._stop.is_set() else items), items)

    def _hand_on(self, together: list[Item | Failure], shown: Shown, hand_on: Callable[[Item | Failure], None]) -> None:
        self._in_time(partial(self._stages.collect, shown), [item for item in together if isinstance(item, Item)])
        for item in together:
            if isinstance(item, Failure) or item.is_decided:
                hand_on(item)

    def _in_time(self, call: Callable[[], T], items: list[Item]) -> T:
        try:
            return self._thread.call(call, self._deadline_s)
        except TimeoutError:
            which = f"{items[0].job.path}: " if items else ""
            raise BackendError(
                f"{which}inference did not end in {self._deadline_s:g} s; the device or its driver hangs"
            ) from None


class SharedInferring:
    """`Inferring` for threads of which each waits for its own micrograph; to be closed when none
    does.
    """

    def __init__(self, stages: Stages, deadline_s: float) -> None:
        self._inferring = Inferring(stages, threading.Event(), deadline_s)
        self._read: BoundedQueue[Item | Failure] = BoundedQueue(0)
        self._waiting: dict[int, Future[None]] = {}
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="gtpick-serving", daemon=True)
        self._thread.start()

    def infer(self, item: Item) -> None:
        """Show the network a micrograph, together with those of other threads, and wait for what it
        says. Raises BackendError, from then on at every call.
        """
        seen: Future[None] = Future()
        with self._lock:
            if self._error is not None:
                raise self._error
            self._waiting[id(item)] = seen
        self._read.put(item)
        seen.result()

    def close(self) -> None:
        """End the threads."""
        self._read.end()
        self._thread.join()
        self._inferring.close()

    def _serve(self) -> None:
        try:
            self._inferring.run(self._read, self._seen)
        except Exception as error:
            with self._lock:
                self._error = error
                for seen in self._waiting.values():
                    seen.set_exception(error)

    def _seen(self, item: Item | Failure) -> None:
        with self._lock:
            self._waiting.pop(id(item)).set_result(None)
