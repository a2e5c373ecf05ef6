"""What came of each micrograph of a run: picked, or failed."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_ROUNDING = 1e-4
"""Pixel sizes that differ by less than this fraction are one that was written with fewer digits."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Escape what no UTF-8 file or terminal can take: control characters, and the bytes of a file
    name that is not UTF-8.
    """
    return _UNPRINTABLE.sub(_escape, text)


def quoted(text: str) -> str:
    """Such a text in quotes, as messages name files with odd names."""
    return f"'{printable(text)}'"


def counted(number: int, noun: str) -> str:
    """Say how many: "1 micrograph", "2,000 micrographs"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def averaged(mean: float) -> str:
    """Write a mean or median of counts: "35", and below 10 with a digit, "3.4"."""
    return f"{int(mean + 0.5):,}" if mean >= 10 else f"{int(10 * mean + 0.5) / 10:g}"


def duration(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = round(seconds)
    for unit, smaller, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size * {'d': 24, 'h': 60, 'min': 60}[unit] // size} {smaller}"
    return f"{whole} s"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in _NAMED:
        return _NAMED[found[0]]
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # as Python keeps such bytes
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{byte:04x}"


class PickedFrom(NamedTuple):
    """From what a micrograph was picked that need not be picked again while this stays so."""

    size: int
    """Bytes of the file."""
    mtime_ns: int
    """When the file was changed last."""
    pixel_size_A: float | None = None
    """Å per pixel; None where the settings gave it, whatever lists and headers say."""
    mask_mtime_ns: int | None = None
    """When its own mask was changed last; None without one."""
    name: str | None = None
    """What lists call it; None where that is not asked."""

    def is_at(self, pixel_size_A: float | None) -> bool:
        """Whether a list that gives this pixel size, or none, has not changed it."""
        if self.pixel_size_A is None or pixel_size_A is None:
            return True
        return abs(pixel_size_A / self.pixel_size_A - 1) < _ROUNDING


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
    """What is wrong with the micrograph, by `quality.quality_flags`."""
    median_score: float | None = None
    """Of the picks; None without picks, and where an older version picked."""
    exposure_uid: int | None = None
    """cryoSPARC's number of the exposure; None where no list of exposures named it."""
    exposure_group: int | None = None
    """cryoSPARC's number of its exposure group."""
    left_out: int = 0
    """Detections that lie where not to pick, and are not kept; see `detection.exclusion`."""
    skipped: list[str] = field(default_factory=list)
    """Flags for which all are left out."""
    mask_mtime_ns: int | None = None
    """When its own mask was changed last; None without one, or where one mask is for all."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One micrograph that could not be picked, or a folder, input or row of a list that names none.

    Its texts are printable, whatever the name of the file: they go into the index, lists and
    terminals.
    """

    stem: str
    """Name that its outputs would have; of a folder, its own name."""
    path: str
    kind: str
    """Name of the error class: "IncompleteError"."""
    message: str

    def __post_init__(self) -> None:
        for name in ("stem", "path", "message"):
            object.__setattr__(self, name, printable(getattr(self, name)))


Record = MicrographRecord | Failure
