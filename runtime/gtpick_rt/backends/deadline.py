"""A thread to which work is given that may never come to an end: a disk, a driver or a library may
not answer.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlineThread:
    """Does one thing at a time in a thread of its own; a thread that does not come back in time is
    given up.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start()

    def _start(self) -> None:
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name=self._name, daemon=True)
        self._thread.start()

    def call(self, call: Callable[[], T], deadline_s: float | None = None) -> T:
        """Call, in the other thread.

        Raises TimeoutError when that takes longer than a deadline, and what `call` raises.
        """
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self._tasks.put((call, answer))
        try:
            result, error = answer.get(timeout=deadline_s)
        except queue.Empty:
            self._tasks.put(None)  # should it ever come back, it is to end
            self._start()
            raise TimeoutError from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    @property
    def ended(self) -> bool:
        """Whether the thread was closed."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Let the thread end, which has nothing to do."""
        self._tasks.put(None)
        self._thread.join()


def _work(tasks: "queue.SimpleQueue[Any]") -> None:
    while (task := tasks.get()) is not None:
        call, answer = task
        try:
            answer.put((call(), None))
        except BaseException as error:
            answer.put((None, error))
        del task, call, answer  # what they hold may be large
