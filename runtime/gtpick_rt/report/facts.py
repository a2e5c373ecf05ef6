"""What the report says in numbers and words."""

import hashlib
import shlex
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from gtpick_rt.following.records import Entry
from gtpick_rt.following.status import Status
from gtpick_rt.following.throughput import Pace
from gtpick_rt.models.files import shipped_models
from gtpick_rt.records import averaged, duration
from gtpick_rt.version import __version__

UNKNOWN = "not known"
_MEASURED = ("diameter_lower_quartile_A", "diameter_upper_quartile_A", "measured_diameter_A", "mask_sha256")
"""Parameters that nobody gives."""


class Fact(NamedTuple):
    """A name and what is so called."""

    name: str
    value: str
    note: str = ""


class Worker(NamedTuple):
    """One of several processes that picked."""

    name: str
    backend: str
    micrographs: str
    per_hour: str
    heard: str


class Stage(NamedTuple):
    """Where time went."""

    name: str
    mean: str
    share: float
    """Of the slowest stage."""


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Write a number with a comma between thousands."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}{unit}"


def rate(value: float | None) -> str:
    """Write how many an hour, with three figures that count."""
    return UNKNOWN if value is None else f"{float(f'{value:.3g}'):,.0f}"


def moment(seconds: float) -> str:
    """Write a moment in the time of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def headline(status: Status, entries: Sequence[Entry], pace: Pace) -> list[Fact]:
    """The figures at a glance; the rates are those of the duration beside them."""
    picks = [entry.picks for entry in entries]
    flagged = sum(bool(entry.flags) for entry in entries)
    scores = [entry.median_score for entry in entries if entry.median_score is not None]
    lasted = duration(pace.seconds)
    of = "from the start to the last micrograph"
    if pace.seconds < pace.last - pace.first:
        of = "of all runs, without the time between them"
    middle = averaged(statistics.median(picks)) if picks else UNKNOWN
    lag = number(status.lag_p50_s, 1, " s"), f"median; 95 %: {number(status.lag_p95_s, 1, ' s')}"
    return [
        Fact("Micrographs picked", number(status.done), f"{number(status.backlog)} waiting" if status.backlog else ""),
        Fact("Failed", number(status.failed)),
        Fact("Flagged", number(flagged)),
        Fact("Picks", number(status.picks)),
        Fact("Picks per micrograph", middle, "median"),
        Fact("Median score", number(statistics.median(scores) if scores else None, 2), "of the micrographs' medians"),
        Fact("Threshold", number(status.threshold, 2)),
        Fact("Diameter", number(status.diameter_A, unit=" Å")),
        Fact("Pixel size", pixel_sizes(entries)),
        Fact("Duration", lasted, of),
        Fact("Micrographs / h", rate(pace.files_per_hour), f"{number(pace.files)} in {lasted}"),
        Fact("Picks / h", rate(pace.picks_per_hour), "in the same time"),
        *([] if status.lag_p50_s is None else [Fact("Lag", *lag)]),  # a batch has none
    ]


def pixel_sizes(entries: Sequence[Entry]) -> str:
    """The pixel size, or the range of them."""
    sizes = sorted({round(entry.pixel_size_A, 4) for entry in entries})
    if not sizes:
        return UNKNOWN
    return f"{sizes[0]:.4g} Å" if len(sizes) == 1 else f"{sizes[0]:.4g} to {sizes[-1]:.4g} Å"


def versions(status: Status, summary: Mapping[str, Any], made: float) -> list[Fact]:
    """By what it was picked and reported."""
    model = _mapping(summary.get("model"))
    return [
        Fact("Model", status.model or UNKNOWN),
        Fact("Model file, SHA-256", str(model.get("sha256", UNKNOWN))),
        Fact("Lowest score kept", number(status.floor, 2)),
        Fact("Backend", status.backend or UNKNOWN),
        Fact("Picked by", f"gtpick-rt {status.version or UNKNOWN}"),
        Fact("Reported by", f"gtpick-rt {__version__}, {moment(made)}"),
    ]


def parameters(summary: Mapping[str, Any]) -> list[Fact]:
    """Every setting of the last run, and what it has measured."""
    found = _mapping(summary.get("parameters"))
    return [
        Fact(_spelt(name), _setting(value))
        for name, value in found.items()
        if value is not None or name not in _MEASURED
    ]


def _spelt(name: str) -> str:
    """The name of a setting with its unit set off: "diameter, Å"."""
    plain = name.removesuffix("_A")
    return plain.replace("_", " ") + (", Å" if plain != name else "")


def _setting(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "none"


def commands(summary: Mapping[str, Any]) -> list[str]:
    """The command lines, to be typed again: of the run, where the program lies left out, and of the
    threshold that was set afterwards.
    """
    words, found = summary.get("command"), _mapping(summary.get("parameters"))
    if not isinstance(words, list) or not words:
        return []
    lines = [[Path(str(words[0])).name, *map(str, words[1:])]]
    if found.get("threshold_of_run", found.get("threshold")) != found.get("threshold"):
        lines.append(["gtpick-rt", "rethreshold", str(found.get("out")), "--threshold", str(found["threshold"])])
    return [shlex.join(line) for line in lines]


def stages(status: Status) -> list[Stage]:
    """Mean busy time of each stage per micrograph."""
    slowest = max([*status.stage_seconds.values(), 0.0]) or 1.0
    return [
        Stage(name, f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s", seconds / slowest)
        for name, seconds in status.stage_seconds.items()
    ]


def workers(status: Status) -> list[Worker]:
    """What each of several processes has done; empty where one did it."""
    return [
        Worker(each.name, each.backend or UNKNOWN, number(each.micrographs), rate(each.per_hour), moment(each.heard))
        for each in status.workers
    ]


def model_card(summary: Mapping[str, Any]) -> str | None:
    """The card, in Markdown, of the model that picked.

    None where it is none of those that ship here.
    """
    sha256 = _mapping(summary.get("model")).get("sha256")
    for path in shipped_models().values():
        text = path.with_suffix(".md")
        if text.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return text.read_text(encoding="utf-8")
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
