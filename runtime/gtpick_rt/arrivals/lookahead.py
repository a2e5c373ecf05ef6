"""Look at the first arrivals before the run takes them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import WAITING, Arrival, Source
from gtpick_rt.records import Failure

PATIENCE_S = 10.0
"""After which what has arrived must do: a microscope that is collecting brings something within
this time."""


class Lookahead:
    """A source whose first arrivals can be looked at; they are brought again to the run.

    What is not there or not whole meanwhile is told to `tell` at once.
    """

    def __init__(
        self, source: Source, stop: threading.Event, tell: Callable[[Failure], None] = lambda failure: None
    ) -> None:
        self._source, self._stop, self._tell = source, stop, tell
        self._coming = iter(source)
        self._held: deque[Arrival] = deque()
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet."""
        return self._source.backlog

    def look(self) -> Iterator[Job]:
        """The micrographs as they arrive; ends when none has come for a while, though the first is
        waited for.

        It also ends at `stop`.
        """
        last: float | None = None
        for arrival in self._coming:
            if self._stop.is_set():
                return
            if isinstance(arrival, Failure):
                self._tell(arrival)
            if arrival is not None and not (isinstance(arrival, Failure) and arrival.kind == WAITING):
                self._held.append(arrival)
            if isinstance(arrival, Job):
                yield arrival
                last = time.monotonic()
            elif last is not None and time.monotonic() - last > PATIENCE_S:
                return

    def __iter__(self) -> Iterator[Arrival | None]:
        while self._held:
            yield self._held.popleft()
        yield from self._coming
