"""How fast a run is."""

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gtpick_rt.following.records import Entry, Event, stages_of

HOUR_S = 3600.0
_SHORTEST_S = 1.0
"""The log tells whole seconds."""
_RECENT = 200
"""Micrographs whose times count for the lag and the like."""


class _Recent(NamedTuple):
    event: Event
    entry: Entry | None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast runs were, while they were at work: each from its start to its last micrograph."""

    first: float
    """When the first of them began, in seconds since 1970."""
    last: float
    """When they were through with a micrograph last."""
    seconds: float
    """In which they were at work: without the time between runs, and once where shards overlap."""
    files: int
    """Micrographs picked or failed meanwhile."""
    files_per_hour: float
    picks_per_hour: float


class Throughput:
    """Rates over the last hour and on average, and times of the last 200 micrographs."""

    def __init__(self) -> None:
        self._begun: Event | None = None  # the last run that counts
        self._runs: dict[float, float] = {}  # when each began, and was through with a micrograph last
        self._files = self._picked = 0  # of these runs
        self._hour: deque[tuple[float, int | None]] = deque()  # when, and the id of what was picked
        self._recent: deque[_Recent] = deque(maxlen=_RECENT)

    def add(self, event: Event, begun: Event | None, entry: Entry | None = None) -> None:
        """Count a micrograph that was picked or, without `entry`, failed, in the run that has
        `begun` then.
        """
        self._recent.append(_Recent(event, entry))
        if entry is None and self._files and begun is not self._begun:
            return  # what fails once more in a run that picks nothing does not tell how fast one is
        since = next(iter(self._runs), event.time) if begun is None else begun.time
        self._runs[since] = max(self._runs.get(since, since), event.time)
        self._begun, self._files, self._picked = begun, self._files + 1, self._picked + (entry is not None)
        self._hour.append((event.time, entry.id if entry else None))
        while self._hour[0][0] < event.time - HOUR_S:
            self._hour.popleft()

    @property
    def _entries(self) -> list[Entry]:
        return [each.entry for each in self._recent if each.entry is not None]

    def now(
        self, begun: Event | None, now: float, entry_of: Callable[[int], Entry | None]
    ) -> tuple[float | None, float | None]:
        """Micrographs and picks per hour of the run that has `begun` and goes on, over the hour
        that ends `now`, of which it may have seen a part; None before it has picked any.

        The picks are those there are now, by `entry_of` an id: a threshold may have been set since.
        """
        if not self._hour or begun is not self._begun:
            return None, None
        since = max(now - HOUR_S, next(iter(self._runs)) if begun is None else begun.time)
        done = [number for at, number in self._hour if at >= since]
        entries = [None if number is None else entry_of(number) for number in done]
        hours = max(now - since, _SHORTEST_S) / HOUR_S
        return len(done) / hours, sum(entry.picks for entry in entries if entry) / hours

    def average(self, picks_each: float) -> Pace | None:
        """How fast the runs were, with so many picks on each micrograph; None before one."""
        if not self._files:
            return None
        seconds, until = 0.0, 0.0
        for begun, last in sorted(self._runs.items()):
            seconds += max(last - max(begun, until), 0.0)
            until = max(until, last)
        seconds = max(seconds, _SHORTEST_S)
        hours = seconds / HOUR_S
        return Pace(
            first=min(self._runs),
            last=until,
            seconds=seconds,
            files=self._files,
            files_per_hour=self._files / hours,
            picks_per_hour=self._picked * picks_each / hours,
        )

    @property
    def lags_s(self) -> list[float]:
        """From ready micrograph to STAR file, in ascending order."""
        return sorted(entry.lag_s for entry in self._entries if entry.lag_s is not None)

    @property
    def seconds(self) -> float | None:
        """Median of the busy time of all stages."""
        return _median([entry.seconds for entry in self._entries])

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Mean busy time of each stage."""
        spent: dict[str, list[float]] = {}
        for each in self._recent:
            for stage, seconds in stages_of(each.event).items():
                spent.setdefault(stage, []).append(seconds)
        return {stage: statistics.fmean(values) for stage, values in spent.items()}


def median_picks(entries: Sequence[Entry]) -> float | None:
    """Median of picks, as they are now, on the last 200 of some micrographs."""
    return _median([entry.picks for entry in entries[-_RECENT:]])


def quantile(ranked: list[float], share: float) -> float | None:
    """The value of an ascending list below which lies this share of it; None of an empty one."""
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else None


def _median(values: list[float] | list[int]) -> float | None:
    return float(statistics.median(values)) if values else None
