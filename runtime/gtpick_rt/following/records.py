"""The lines of the log, as values; a line that is none of ours, or damaged, is none."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.errors import UsageError

PICKED, FAILED, BEGUN, RETHRESHOLDED = "picked", "failed", "begun", "rethresholded"
ADAPTING = "adapting"
ADAPTATION = (ADAPTING, "adapted", "not adapted")
"""Lines of a network that adapts itself: it begins to, it has, it may not."""
_START = b'{"time": "'
_LARGEST = 1e15
"""Beyond this no number of a log is what it should be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One micrograph that was picked."""

    id: int
    """Its place in the order of first appearance, failures included."""
    stem: str
    name: str
    time: float
    """When it was done, in seconds since 1970."""
    width: int
    height: int
    pixel_size_A: float
    picks: int
    detections: int
    seconds: float
    lag_s: float | None
    """From ready micrograph to its STAR file."""
    median_score: float | None
    """Of its picks; None without picks, and where an older version picked."""
    flags: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One micrograph that could not be picked."""

    id: int
    stem: str
    path: str
    kind: str
    """Name of the error class."""
    message: str
    time: float


class Event(NamedTuple):
    """A line of the log."""

    state: str
    time: float
    backlog: int | None
    line: Mapping[str, Any]


def read_event(line: bytes) -> Event | None:
    """Read a line.

    After a crash a torn line and a whole one may stand in the same row: then the whole one counts.
    """
    try:
        found = json.loads(line[max(line.rfind(_START), 0) :])
        backlog = found.get("backlog")
        return Event(text(found["state"]), _seconds(found["time"]), None if backlog is None else count(backlog), found)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def written_at(summary: Mapping[str, Any]) -> float | None:
    """When a summary was written, in seconds since 1970; None where it does not tell, as those of
    older versions.
    """
    try:
        return _seconds(summary["written"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def _seconds(stamp: Any) -> float:
    return datetime.fromisoformat(f"{stamp[:-2]}:{stamp[-2:]}").timestamp()  # Python 3.10 wants the colon


def entry_of(event: Event, number: int) -> Entry | None:
    """The micrograph that was picked; `number` becomes its id."""
    line = event.line
    try:
        entry = Entry(
            id=number,
            stem=text(line["stem"]),
            name=text(line["name"]),
            time=event.time,
            width=count(line["width"]),
            height=count(line["height"]),
            pixel_size_A=amount(line["pixel_size_A"]),
            picks=count(line["picks"]),
            detections=count(line["detections"]),
            seconds=amount(line["seconds"]),
            lag_s=amount_or_none(line.get("lag_s")),
            median_score=amount_or_none(line.get("median_score")),
            flags=tuple(sys.intern(text(flag)) for flag in line.get("flags", ())),
            warnings=tuple(text(warning) for warning in line.get("warnings", ())),
        )
    except (ValueError, TypeError, KeyError):
        return None
    return entry if entry.width and entry.height and entry.pixel_size_A else None


def problem_of(event: Event, number: int) -> Problem | None:
    """The micrograph that failed; `number` becomes its id."""
    line = event.line
    try:
        stem, path, kind, message = (text(line[name]) for name in ("stem", "path", "kind", "message"))
    except (ValueError, TypeError, KeyError):
        return None
    return Problem(number, stem, path, kind, message, event.time)


def stages_of(event: Event) -> dict[str, float]:
    """Busy seconds of each stage."""
    try:
        return {text(stage): amount(seconds) for stage, seconds in event.line.get("stage_seconds", {}).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def learning_from(event: Event) -> int | None:
    """How many micrographs the network adapts itself to from this line on; None where it does not
    any more.
    """
    try:
        return count(event.line.get("micrographs")) if event.state == ADAPTING else None
    except ValueError:
        return None


def made_otherwise(before: Event, now: Event) -> bool:
    """Whether the picks of a run that has begun so are made otherwise than those before, but for
    their threshold.
    """
    earlier, later = (mapping(each.line.get("settings")) for each in (before, now))
    return bool(earlier) and {**earlier, "threshold": None} != {**later, "threshold": None}


def shard_of(event: Event) -> Shard | None:
    """The shard that has logged this; None where the folder was not shared."""
    try:
        return Shard.parse(text(event.line.get("shard")))
    except (ValueError, UsageError):
        return None


def worker_of(event: Event) -> str:
    """The name of the process that has picked this, or "" where it is the one that
    has logged it.
    """
    worker, shard = event.line.get("worker"), shard_of(event)
    return worker if isinstance(worker, str) else f"shard {shard}" if shard else ""


def text(value: object) -> str:
    """A text as it is. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def amount(value: object) -> float:
    """A number that is finite and not negative. Raises ValueError for anything else."""
    if type(value) not in (float, int) or not 0 <= value < _LARGEST:  # type: ignore[operator]
        raise ValueError(f"{value!r} is no amount")
    return float(value)  # type: ignore[arg-type]


def amount_or_none(value: object) -> float | None:
    """Such a number, or None for None. Raises ValueError."""
    return None if value is None else amount(value)


def count(value: object) -> int:
    """A whole number that is not negative. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < _LARGEST:  # True is an int too
        raise ValueError(f"{value!r} is no count")
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """What should be a mapping; an empty one where it is not."""
    return value if isinstance(value, dict) else {}
