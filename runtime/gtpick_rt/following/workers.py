"""The processes that pick together, as the lines of the log tell of them."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.following.records import Event, mapping, shard_of, worker_of
from gtpick_rt.following.throughput import HOUR_S


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """One of several processes that pick."""

    name: str
    backend: str | None
    """None while it is not known."""
    micrographs: int
    """Picked or failed in this run."""
    per_hour: float | None
    """Over the last hour, or since its first micrograph, which is not counted; None while that
    is all."""
    heard: float
    """When it was through with a micrograph last, in seconds since 1970."""


@dataclass
class _Worker:
    first: float
    shard: Shard | None
    backend: str | None = None
    micrographs: int = 0
    heard: float = 0.0
    hour: deque[float] = field(default_factory=deque)
    """When it was through with each of the last hour, but for the first."""

    def per_hour(self, end: float) -> float | None:
        if self.micrographs <= 1:
            return None
        since = max(end - HOUR_S, self.first)
        hours = max(end - since, 1.0) / HOUR_S  # the log tells whole seconds
        return sum(since <= at <= end for at in self.hour) / hours


class Workers:
    """What is known of the workers of a run. A run that picks by itself has none."""

    def __init__(self) -> None:
        self._known: dict[str, _Worker] = {}
        self._past = False  # those that are known are of an earlier run

    def begin(self, event: Event) -> None:
        """Forget those of an earlier run, unless this one finds nothing to do; where a shard
        begins, the others of its batch stay.
        """
        shard = shard_of(event)
        self._past = shard is None
        if shard is None:
            return
        self._known = {
            name: worker
            for name, worker in self._known.items()
            if worker.shard and worker.shard.of == shard.of and worker.shard != shard
        }
        backend = event.line.get("backend")
        known = _Worker(event.time, shard, backend if isinstance(backend, str) else None, heard=event.time)
        self._known[worker_of(event)] = known

    def count(self, event: Event) -> None:
        """Count a micrograph that one of them is through with."""
        if self._past:
            self._known, self._past = {}, False
        name = worker_of(event)
        if not name:
            return
        worker = self._known.setdefault(name, _Worker(event.time, shard_of(event)))
        if worker.micrographs:
            worker.hour.append(event.time)
        while worker.hour and worker.hour[0] < event.time - HOUR_S:
            worker.hour.popleft()
        worker.micrographs += 1
        worker.heard = max(worker.heard, event.time)

    def status(self, summary: Mapping[str, Any], end: float, goes_on: bool) -> tuple[WorkerStatus, ...]:
        """How each is doing at `end`, by name; the summary tells the backends that the log does
        not.

        Those of an earlier run are not told of while another `goes_on`.
        """
        if goes_on and self._past:
            return ()
        listed = summary.get("workers")
        told = [mapping(each) for each in listed] if isinstance(listed, list) else []
        backends = {each.get("name"): each.get("backend") for each in told if isinstance(each.get("name"), str)}
        return tuple(
            WorkerStatus(
                name=name,
                backend=worker.backend or _text(backends.get(name)),
                micrographs=worker.micrographs,
                per_hour=worker.per_hour(end),
                heard=worker.heard,
            )
            for name, worker in sorted(self._known.items(), key=_in_order)
        )


def _in_order(item: tuple[str, _Worker]) -> tuple[int, int, str]:
    """Shards by number, others by name; "worker10" after "worker9"."""
    name, worker = item
    return (worker.shard.number if worker.shard else 0, len(name), name)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
