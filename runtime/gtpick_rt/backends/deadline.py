"""A thread to which work is given that may never come to an end: a disk, a driver or a library may
not answer.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
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
        begun = self.begin(call)
        if not wait((begun,), deadline_s).done:
            self._tasks.put(None)  # should it ever come back, it is to end
            self._start()
            raise TimeoutError
        return begun.result()

    def begin(self, call: Callable[[], T]) -> "Future[T]":
        """Let the other thread call, once it is through with what it was given before; does not
        wait.
        """
        begun: Future[T] = Future()
        self._tasks.put((call, begun))
        return begun

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
        call, begun = task
        try:
            begun.set_result(call())
        except BaseException as error:
            begun.set_exception(error)
        del task, call, begun  # what they hold may be large
