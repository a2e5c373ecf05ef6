"""How a run is doing, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gtpick_rt.following.records import Event, amount_or_none, mapping
from gtpick_rt.following.throughput import Pace
from gtpick_rt.following.workers import WorkerStatus
from gtpick_rt.output.summary import Outcome

RUNNING, IDLE, STALLED, FINISHED, NO_PROCESS = "running", "idle", "stalled", "finished", "no process"
WAITING = "waiting"
"""For a run of pick to begin in the folder."""
STATES = (RUNNING, IDLE, STALLED, FINISHED, NO_PROCESS, WAITING)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What decides which picks come out. What is not known is None."""

    threshold: float | None
    floor: float | None
    """Score from which detections are kept: no threshold can be lower."""
    diameter_A: float | None
    model: str | None
    backend: str | None
    version: str | None
    """Of the gtpick-rt that picked."""
    adaptation: Outcome | None
    """Of the network to the micrographs."""


@dataclass(frozen=True, kw_only=True)
class Status(Facts):
    """How a run is doing. What is not known is None."""

    state: str
    """One of STATES."""
    done: int
    failed: int
    backlog: int
    """Micrographs known and not yet done, when the run told last."""
    picks: int
    """On all micrographs."""
    flags: dict[str, int]
    """How many micrographs have each flag that any has, the most frequent first."""
    files_per_hour: float | None
    """Micrographs picked or failed, over the last hour or since the run began; on average when none
    goes on."""
    picks_per_hour: float | None
    average: Pace | None
    """So far, over all runs; None before a micrograph is done."""
    lag_p50_s: float | None
    """Over the last 200 micrographs, as the next four."""
    lag_p95_s: float | None
    picks_per_micrograph: float | None
    """Median."""
    seconds_per_micrograph: float | None
    """Median of the busy time of all stages."""
    stage_seconds: dict[str, float]
    """Mean busy time of each stage per micrograph."""
    last_event_age_s: float | None
    """Since a micrograph was picked or failed."""
    learning_from: int | None
    """Micrographs to which the network adapts itself now; None while it does not."""
    workers: tuple[WorkerStatus, ...]
    """The processes that pick, where there are several."""


def left_by(begun: bool, done: bool, backlog: int) -> str:
    """The state of a folder to which no run writes: whether one has begun, has `done` anything, and
    how much it left.
    """
    if done:
        return NO_PROCESS if backlog else FINISHED
    return NO_PROCESS if begun else WAITING


def facts_of(summary: Mapping[str, Any], begun: Event | None) -> Facts:
    """Tell them from the summary and, as long as there is none, from the line of the log with which
    the run began.
    """
    parameters, model = mapping(summary.get("parameters")), mapping(summary.get("model"))
    line = {} if begun is None else begun.line
    settings = mapping(line.get("settings"))
    name = " ".join(str(model[part]) for part in ("name", "version") if part in model)
    return Facts(
        threshold=_amount(parameters.get("threshold", settings.get("threshold"))),
        floor=_amount(model.get("floor")),
        diameter_A=_amount(parameters.get("diameter_A", settings.get("diameter_A"))),
        model=name or _text(settings.get("model")),
        backend=_text(summary.get("backend", line.get("backend"))),
        version=_text(summary.get("version")),
        adaptation=_outcome(summary.get("adaptation")),
    )


def _amount(value: object) -> float | None:
    try:
        return amount_or_none(value)
    except ValueError:
        return None


def _outcome(value: Any) -> Outcome | None:
    try:
        return Outcome.of(value)
    except (ValueError, KeyError, TypeError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
