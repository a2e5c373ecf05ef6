"""How fast a run is."""

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gtpick_rt.following.records import Entry, Event, stages_of

HOUR_S = 3600.0
_RECENT = 200
"""Micrographs whose times count for the lag and the like."""


class _Recent(NamedTuple):
    event: Event
    entry: Entry | None


class Throughput:
    """Rates over the last hour, and times of the last 200 micrographs."""

    def __init__(self) -> None:
        self._begun: Event | None = None  # the last run that has picked a micrograph
        self._last = 0.0  # when it was through with one
        self._hour: deque[tuple[float, int | None]] = deque()  # when, and the id of what was picked
        self._recent: deque[_Recent] = deque(maxlen=_RECENT)

    def add(self, event: Event, begun: Event | None, entry: Entry | None = None) -> None:
        """Count a micrograph that was picked or, without `entry`, failed, in the run that has
        `begun` then.
        """
        self._recent.append(_Recent(event, entry))
        if entry is None and begun is not self._begun:
            return  # what fails once more in a run that picks nothing does not tell how fast one is
        self._begun, self._last = begun, event.time
        self._hour.append((event.time, entry.id if entry else None))
        while self._hour[0][0] < event.time - HOUR_S:
            self._hour.popleft()

    @property
    def _entries(self) -> list[Entry]:
        return [each.entry for each in self._recent if each.entry is not None]

    def rates(
        self, begun: Event | None, now: float, goes_on: bool, entry_of: Callable[[int], Entry | None]
    ) -> tuple[float | None, float | None]:
        """Micrographs and picks per hour, over the hour that ends `now` or with the run, of which
        the run may have seen a part.

        Of the run that has `begun` and `goes_on`, if it has picked any; else of the last one that
        has. The picks are those there are now, by `entry_of` an id: a threshold may have been set
        since.
        """
        if not self._hour or (goes_on and begun is not self._begun):
            return None, None
        end = now if goes_on else self._last
        first = self._hour[0][0] if self._begun is None else self._begun.time
        since = max(end - HOUR_S, first)
        done = [number for at, number in self._hour if at >= since]
        entries = [None if number is None else entry_of(number) for number in done]
        hours = max(end - since, 1.0) / HOUR_S  # the log tells whole seconds
        return len(done) / hours, sum(entry.picks for entry in entries if entry) / hours

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
