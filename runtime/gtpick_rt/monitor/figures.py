"""The numbers of the charts, worked out once for all who watch and no more often than the eye
needs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from gtpick_rt.following import charts
from gtpick_rt.following.history import History
from gtpick_rt.following.particles import Group, particle_groups
from gtpick_rt.following.records import Entry
from gtpick_rt.monitor.rows import to_json

EVERY_S = 5.0
_EVERY_TIMES = 100
"""Or, where it takes long, once in so many times that it takes."""


class _Made(NamedTuple):
    key: object
    until: float
    value: Any


class Figures:
    """Charts of a history."""

    def __init__(self, history: History) -> None:
        self._history, self._sampler = history, charts.Sampler(history)
        self._made: dict[str, _Made] = {}
        self._lock = asyncio.Lock()

    async def trends(self) -> bytes:
        """Figures in the order of acquisition, as JSON."""
        return await self._current("trends", lambda entries: to_json(asdict(charts.trends(entries))))

    async def outliers(self) -> frozenset[int]:
        """The ids of the micrographs that are unusual."""
        return await self._current("outliers", _outliers)

    async def histograms(self, threshold: float) -> bytes:
        """Distributions, as JSON."""

        def make(entries: Sequence[Entry]) -> bytes:
            return to_json(asdict(self._sampler.histograms(entries, threshold)))

        return await self._current("histograms", make, threshold)

    async def particles(self, threshold: float, diameter_A: float | None) -> list[Group]:
        """Particles by score."""

        def make(entries: Sequence[Entry]) -> list[Group]:
            return particle_groups(self._history, entries, threshold, diameter_A)

        return await self._current("particles", make, (threshold, diameter_A))

    async def _current(self, name: str, make: Callable[[Sequence[Entry]], Any], about: object = None) -> Any:
        async with self._lock:
            key, made, now = (self._history.version, about), self._made.get(name), time.monotonic()
            if made is None or (made.key != key and now >= made.until):
                value = await run_in_threadpool(make, list(self._history.entries))
                took_s = time.monotonic() - now
                made = _Made(key, now + max(EVERY_S, _EVERY_TIMES * took_s), value)
                self._made[name] = made
            return made.value


def _outliers(entries: Sequence[Entry]) -> frozenset[int]:
    return frozenset(entries[i].id for i in charts.is_outlier(entries).nonzero()[0].tolist())
