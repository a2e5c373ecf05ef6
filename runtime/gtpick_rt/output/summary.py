"""The record of a run: what was asked, what came of each micrograph, where the time went."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtpick_rt.detection.exclusion import Exclusion
from gtpick_rt.version import __version__

_SHA256_LETTERS = 64
_TOLD = {
    "margin": "--margin",
    "mask": "--mask",
    "mask_sha256": "checksum of the mask",
    "skip_flagged": "--skip-flagged",
    "avoid_contamination": "--avoid-contamination",
    "model": "model",
    "model_sha256": "checksum of the model",
    "diameter_A": "--diameter",
    "contrast": "contrast",
    "threshold": "--threshold",
    "pixel_size_A": "--pixel-size",
}
"""What people call a setting: by the option, where one gives it."""
_MANY = 1_000_000_000
"""Picks that no micrograph has."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model that picked."""

    name: str
    version: str
    sha256: str
    """Of the model file."""
    floor: float
    """Score from which detections are kept: no threshold can be lower."""


@dataclass(frozen=True, kw_only=True)
class Settings(Exclusion):
    """What decides which picks come out of a micrograph: one output folder holds the picks of one
    of them.
    """

    model: str
    """Name and version."""
    model_sha256: str
    diameter_A: float
    contrast: str
    threshold: float
    pixel_size_A: float | None
    """As given for all micrographs; None where each file's own was taken."""

    @property
    def exclusion(self) -> Exclusion:
        """Where nothing is picked."""
        return Exclusion(**{item.name: getattr(self, item.name) for item in dataclasses.fields(Exclusion)})

    def to_json(self) -> str:
        """Write the settings in one line; equal settings give equal lines."""
        return json.dumps(dataclasses.asdict(self))

    def is_rethresholded(self, other: "Settings") -> bool:
        """Whether `other` differs, in the threshold alone."""
        return other != self and dataclasses.replace(other, threshold=self.threshold) == self

    def differences(self, other: "Settings") -> list[str]:
        """What differs in `other`, in words: "--threshold 0.47, now 0.5"."""
        before, now = dataclasses.asdict(self), dataclasses.asdict(other)
        differing = [name for name in before if before[name] != now[name]]
        return [f"{_TOLD[name]} {_shown(before[name])}, now {_shown(now[name])}" for name in differing]

    def refusal(self, out: Path, other: "Settings") -> str:
        """Why picks of `other` settings are not put beside these in the folder `out`, and the way
        out.
        """
        told = (
            f"{out} holds picks made otherwise ({'; '.join(self.differences(other))}); "
            "choose another output folder, or --force to pick all of them again"
        )
        if not self.is_rethresholded(other):
            return told
        return (
            f"{told}; another threshold needs no picking: gtpick-rt rethreshold {out} --threshold {other.threshold:g}"
        )


def _shown(value: object) -> str:
    """A setting as people read it: of a checksum the beginning."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) else str(value or "none")
    return f"{text[:8]}..." if len(text) == _SHA256_LETTERS else text


Parameters = dict[str, str | float | bool | None]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts over all micrographs of an output folder, whichever run picked them."""

    micrographs: int
    failed: int
    picks: int
    detections: int
    flags: dict[str, int]
    """How many micrographs have each flag that any has, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """One of several processes that picked."""

    name: str
    backend: str
    micrographs: int
    busy_s: float
    """Busy seconds of all its stages, which may overlap."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A micrograph from which a network has learned: before, and now."""

    name: str
    picks: tuple[int, int]
    median_score: tuple[float | None, float | None]
    """Of the picks; None without picks."""

    def __post_init__(self) -> None:
        scores = [score for score in self.median_score if score is not None]
        counted = all(type(count) is int and 0 <= count < _MANY for count in self.picks)
        if not (len(self.picks) == len(self.median_score) == 2 and counted and all(0 <= each <= 1 for each in scores)):
            raise ValueError(f"{self} is no change of picks")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an adaptation of the network to the micrographs has come to."""

    message: str
    """What was learned from and what changed, or why nothing may be used."""
    model: str | None = None
    """Name of the model's file in its folder; None where there is none."""
    changes: list[Change] = field(default_factory=list)
    """On each micrograph that was learned from; there are few."""

    def __post_init__(self) -> None:
        if not all(isinstance(each, str) for each in (self.message, self.model or "", *(c.name for c in self.changes))):
            raise ValueError(f"{self} is no outcome of an adaptation")

    @property
    def told(self) -> str:
        """Which network picks, and why, in a line."""
        return f"{'adapted' if self.model else 'not adapted, the general network picks'}: {self.message}"

    @property
    def sentence(self) -> str:
        """The same, to stand by itself."""
        return self.told[0].upper() + self.told[1:]

    @classmethod
    def of(cls, found: dict[str, Any]) -> "Outcome":
        """Make it of the mapping that JSON holds. Raises ValueError, KeyError or TypeError."""
        changes = [
            Change(name=each["name"], picks=tuple(each["picks"]), median_score=tuple(each["median_score"]))
            for each in found["changes"]
        ]
        return cls(message=found["message"], model=found["model"], changes=changes)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run of `pick`, and the totals of the folder that it wrote into."""

    command: list[str]
    """The command line of the run that picked, as all that follows: a run that finds nothing to do
    leaves the record as it is, but for the totals.
    """
    parameters: Parameters
    """Every setting in force, defaults included."""
    model: ModelRecord
    backend: str
    seconds: float
    stage_seconds: dict[str, float]
    """Busy seconds of each stage in this run; stages overlap, so they may add up to more than
    `seconds`."""
    picked: int
    """Micrographs picked in this run."""
    totals: Totals
    backlog: int = 0
    """Micrographs that were known and not yet done when this was written."""
    workers: list[WorkerRecord] = field(default_factory=list)
    """The processes that picked in this run; empty where this one did."""
    adaptation: Outcome | None = None
    """Of the network to the micrographs; None where no run was asked for it."""
    retries: int = 0
    """Times that a micrograph was picked again because a worker was lost."""
    version: str = __version__
    """Of the gtpick-rt that picked."""

    def after(self, earlier: "Summary | None") -> "Summary":
        """What is to be written down after an `earlier` run: its record, while this one has
        picked nothing. What the network has adapted itself to holds for both.
        """
        if earlier is None:
            return self
        adaptation = self.adaptation or earlier.adaptation
        if self.picked:
            return dataclasses.replace(self, parameters=self._parameters_after(earlier), adaptation=adaptation)
        earlier = earlier.at_threshold(self.parameters["threshold"])
        return dataclasses.replace(earlier, totals=self.totals, backlog=self.backlog, adaptation=adaptation)

    def _parameters_after(self, earlier: "Summary") -> Parameters:
        """Those of this run; where it has gone on at a threshold that was set after an `earlier`
        one, also that before.
        """
        before, now = earlier.parameters, self.parameters
        went_on = now.get("threshold_auto") and before.get("threshold") == now["threshold"]
        if not went_on or "threshold_of_run" not in before:
            return now
        return {"threshold_of_run": before["threshold_of_run"], **now}

    def at_threshold(self, threshold: str | float | bool | None) -> "Summary":
        """The same run, whose picks have been brought to this threshold."""
        before = self.parameters.get("threshold")
        if before == threshold:
            return self
        parameters = {"threshold_of_run": before, **self.parameters, "threshold": threshold}
        return dataclasses.replace(self, parameters=parameters)

    @classmethod
    def from_json(cls, text: str) -> "Summary":
        """Read what `to_json` wrote, without the records of micrographs.

        Raises ValueError, KeyError or TypeError.
        """
        found = json.loads(text)
        known = {item.name for item in dataclasses.fields(cls)}
        found = {name: value for name, value in found.items() if name in known}
        found |= {"model": ModelRecord(**found["model"]), "totals": Totals(**found["totals"])}
        found["workers"] = [WorkerRecord(**worker) for worker in found.get("workers", ())]
        found["adaptation"] = Outcome.of(found["adaptation"]) if found.get("adaptation") else None
        return cls(**found)

    def to_json(self, micrographs: Iterable[str], failed: Iterable[str], written: str) -> Iterator[str]:
        """Write the summary with the JSON of each record, piece by piece: it may be long.

        `written` is the time, as `runlog.time_stamp` tells it, by which a monitor knows the clock
        of the run.
        """
        head = json.dumps({"version": self.version, "written": written, **dataclasses.asdict(self)}, indent=1)
        yield head.removesuffix("\n}")
        for name, records in (("micrographs", micrographs), ("failed", failed)):
            yield f',\n "{name}": ['
            separator = "\n  "
            for record in records:
                yield separator + record
                separator = ",\n  "
            yield "\n ]" if separator.startswith(",") else "]"
        yield "\n}\n"


def read_summary(path: Path) -> Summary | None:
    """Read a `summary.json`; None where it is missing or damaged."""
    try:
        return Summary.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None
