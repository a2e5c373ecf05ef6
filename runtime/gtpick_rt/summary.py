"""The record of a run: what was asked, what came of each micrograph, where the time went."""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model that picked."""

    name: str
    version: str
    sha256: str
    """Of the model file."""


@dataclass(frozen=True, kw_only=True)
class MicrographRecord:
    """One micrograph that was picked."""

    stem: str
    """Name of its outputs, relative to the output folder."""
    path: str
    width: int
    height: int
    pixel_size_A: float
    picks: int
    """Detections at or above the threshold."""
    detections: int
    """All that were kept for re-thresholding."""
    seconds: float
    warnings: list[str] = field(default_factory=list)
    """What was odd about the file, though it was picked."""
    flags: list[str] = field(default_factory=list)
    """What is wrong with the micrograph, by `quality.quality_flags`; picks are kept whatever it says."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One micrograph that could not be picked, or a folder that could not be listed."""

    stem: str
    """Name that its outputs would have; of a folder, its own name."""
    path: str
    kind: str
    """Name of the error class: "IncompleteError"."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run of `pick`."""

    command: list[str]
    """The command line."""
    parameters: dict[str, str | float | bool | None]
    """Every setting in force, defaults included."""
    model: ModelRecord
    backend: str
    seconds: float
    stage_seconds: dict[str, float]
    """Busy seconds of each stage; stages overlap, so they may add up to more than `seconds`."""
    micrographs: list[MicrographRecord] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def flag_counts(self) -> dict[str, int]:
        """How many micrographs have each flag that any has, the most frequent first."""
        return dict(Counter(flag for record in self.micrographs for flag in record.flags).most_common())

    def to_json(self) -> str:
        """Write the record as JSON, with the version of gtpick-rt and totals."""
        from gtpick_rt import __version__

        totals = {
            "micrographs": len(self.micrographs),
            "failed": len(self.failed),
            "picks": sum(record.picks for record in self.micrographs),
            "detections": sum(record.detections for record in self.micrographs),
            "flags": self.flag_counts(),
        }
        return json.dumps({"version": __version__, "totals": totals, **dataclasses.asdict(self)}, indent=1)
