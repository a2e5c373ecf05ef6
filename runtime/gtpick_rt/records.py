"""What came of each micrograph of a run: picked, or failed."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class MicrographRecord:
    """One micrograph that was picked."""

    stem: str
    """Name of its outputs, relative to the output folder."""
    name: str
    """What lists call it."""
    path: str
    size: int
    """Bytes of the file."""
    mtime_ns: int
    """When the file was changed last, as its file system tells. With `size`, tells whether it was
    replaced since."""
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
    """What is wrong with the micrograph, by `quality.quality_flags`; picks are kept whatever it
    says."""
    median_score: float | None = None
    """Of the picks; None without picks, and where an older version picked."""
    exposure_uid: int | None = None
    """cryoSPARC's number of the exposure; None where no list of exposures named it."""
    exposure_group: int | None = None
    """cryoSPARC's number of its exposure group."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One micrograph that could not be picked, or a folder that could not be listed."""

    stem: str
    """Name that its outputs would have; of a folder, its own name."""
    path: str
    kind: str
    """Name of the error class: "IncompleteError"."""
    message: str


Record = MicrographRecord | Failure
