"""A micrograph as another program's list has it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMicrograph:
    """One row of RELION's micrographs STAR file or of cryoSPARC's exposures."""

    name: str
    """The path, as the list spells it."""
    pixel_size_A: float | None
    """Å per pixel; None where the list does not say."""
    note: str = ""
    """What is odd about its row, though the micrograph can be picked."""
    fault: str = ""
    """Why it cannot be picked as its row has it; the other rows are not affected."""
    project: Path | None = None
    """Folder to which the name is relative; None of RELION, which runs in it."""
    exposure_uid: int | None = None
    """cryoSPARC's number of the exposure."""
    exposure_group: int | None = None
    """cryoSPARC's number of its exposure group."""


def known_pixel_size(value: float) -> float | None:
    """Å per pixel, or None for a value that no image has: 0, negative, NaN, infinite."""
    return value if 0 < value < float("inf") else None


def unused_pixel_size(text: str) -> str:
    """Say that the list has a pixel size that cannot be one."""
    return f"the list of micrographs gives {text} Å per pixel, which is none, so the header's is taken"
