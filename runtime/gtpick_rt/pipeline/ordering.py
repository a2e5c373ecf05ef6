"""Things that are worked on side by side, and handed on in the order in which they were begun."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InOrder:
    """Lets number 0, 1, 2, ... have its turn only after those before it; each must take it,
    whatever happens.
    """

    def __init__(self) -> None:
        self._next, self._change = 0, threading.Condition()

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Wait for the turn of `number`, which ends with the block."""
        with self._change:
            self._change.wait_for(lambda: self._next == number)
        try:
            yield
        finally:
            with self._change:
                self._next += 1
                self._change.notify_all()
