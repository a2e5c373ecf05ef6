"""Ends a process in which something hangs: a library that keeps the interpreter to itself, or a
disk.
"""

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Watchdog:
    """Ends this process, with a traceback of all threads on stderr, when a block takes longer than
    `deadline_s`.

    Several threads may be in such blocks. The clock is one of C, which goes on while the
    interpreter is held.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._due: list[float] = []
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch over a block."""
        due = time.monotonic() + self._deadline_s
        with self._lock:
            self._due.append(due)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._due.remove(due)
                self._set()

    def _set(self) -> None:
        if self._due:
            faulthandler.dump_traceback_later(max(0.001, min(self._due) - time.monotonic()), exit=True)
        else:
            faulthandler.cancel_dump_traceback_later()
