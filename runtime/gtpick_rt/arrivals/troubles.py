"""What keeps the watcher from looking into a folder or list: a moment's trouble is no failure."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from gtpick_rt.arrivals.source import WAITING, Timing
from gtpick_rt.records import Failure


class Troubles:
    """The folders and lists of one input that cannot be looked into.

    Each is told as waited for when its trouble begins. It is told as failed when that has lasted
    for `max_wait_s` or lasts at the end, unless it is of the kind WAITING: it is not there, and may
    come.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._lasting: dict[str, tuple[float, Failure]] = {}  # by path: since when, and what is wrong
        self._failed: set[str] = set()

    def tell(self, failures: Sequence[Failure], now: float, resting: Container[str] = ()) -> Iterator[Failure]:
        """What is to be told when these have failed just now.

        All other troubles are over, but for paths that are `resting`: they were not tried.
        """
        failing = {failure.path: failure for failure in failures}
        self._lasting = {path: each for path, each in self._lasting.items() if path in failing or path in resting}
        for path, failure in failing.items():
            if path not in self._lasting:
                self._lasting[path] = (now, failure)
                limit = "" if failure.kind == WAITING else f", for {self._timing.max_wait_s:g} s"
                yield replace(failure, kind=WAITING, message=f"{failure.message}; it is waited for{limit}")
            elif now - self._lasting[path][0] >= self._timing.max_wait_s:
                yield from self._fail(failure)

    def left(self) -> Iterator[Failure]:
        """What lasts, as failed."""
        for _, failure in self._lasting.values():
            yield from self._fail(failure)

    def _fail(self, failure: Failure) -> Iterator[Failure]:
        if failure.kind != WAITING and failure.path not in self._failed:
            self._failed.add(failure.path)
            yield failure
