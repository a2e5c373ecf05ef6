"""A part of what arrives, where others pick the rest."""

from collections.abc import Callable, Iterator

from gtpick_rt.arrivals.source import Arrival, Source
from gtpick_rt.inputs import Job


class Share:
    """What a source brings of the micrographs that are held, by the names of their outputs."""

    def __init__(self, source: Source, holds: Callable[[str], bool]) -> None:
        self._source, self._holds = source, holds
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet, whosever they are."""
        return self._source.backlog

    def __iter__(self) -> Iterator[Arrival | None]:
        for arrival in self._source:
            if arrival is None or self._holds(str(arrival.stem)):
                yield arrival
            elif isinstance(arrival, Job):
                self._source.done(arrival)
