"""Where not to pick: along the borders, under a mask, on film and ice, and on micrographs that are
flagged.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gtpick_rt.detection.contamination import Contamination, Mask, on_contamination
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.detection.quality import FLAGS, quality_flags
from gtpick_rt.errors import UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks

AUTO = "auto"
_MARGIN = re.compile(r"(\d+(?:\.\d+)?) ?(px|Å|A)?")
_SMEARED = 0.5
"""Differences between neighbouring lines, in those along them and as the whole image has them:
frames that were shifted leave copies of their outermost lines, so that little changes from line to
line."""
_CONSTANT = 0.2
"""Differences along lines that hardly differ, in those of the whole image; what smooths a constant
border leaves some."""
_MOST = 8
"""A margin that is found is at most this fraction of the image."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Where not to pick, as it was asked for."""

    margin: str = AUTO
    """Along each border: "120 Å", "40 px", or "auto" for what is smeared or constant."""
    mask: str | None = None
    """Path of the mask of all micrographs, or of a folder with one of each."""
    mask_sha256: str | None = None
    """Of a mask of all; None for a folder."""
    skip_flagged: str = ""
    """Flags, with commas: micrographs that have one of them get no picks."""
    avoid_contamination: bool = False
    """Whether film beyond a carbon edge, and ice larger than a particle, are left out."""

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of `skip_flagged`."""
        return tuple(filter(None, self.skip_flagged.split(", ")))

    @property
    def masks(self) -> Path | None:
        """The folder with a mask of each micrograph; None without one."""
        return None if self.mask is None or self.mask_sha256 is not None else Path(self.mask)


class Kept(NamedTuple):
    """What is left of the detections of a micrograph."""

    detections: Picks
    left_out: int
    """How many are not."""
    flags: list[str]
    """What is wrong with the micrograph; see `quality_flags`."""
    skipped: list[str]
    """The flags for which all are left out."""


def parse_margin(text: str) -> str:
    """Bring a margin to the form that `Exclusion` has: "120" is 120 Å. Raises UsageError."""
    if text == AUTO:
        return AUTO
    found = _MARGIN.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--margin {text}: neither a width, such as 120 (Å) or 40px, nor auto")
    return f"{float(found[1]):g} {'px' if found[2] == 'px' else 'Å'}"


def parse_flags(names: Iterable[str]) -> str:
    """Bring names of flags to the form that `Exclusion` has; the first word of a name will do.

    Raises UsageError.
    """
    known = {short: flag for flag in FLAGS for short in (flag, flag.split()[0], flag.replace(" ", "-"))}
    asked = {name.strip() for name in names} - {""}
    unknown = asked - known.keys()
    if unknown:
        raise UsageError(f"--skip-flagged {min(unknown)}: is no flag; {', '.join(FLAGS)} are")
    chosen = {known[name] for name in asked}
    return ", ".join(flag for flag in FLAGS if flag in chosen)


class Margins(NamedTuple):
    """Where not to pick along the borders, in working pixels."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


def margins_px(margin: str, image: WorkingImage, pixel_size_A: float) -> Margins:
    """Find the margins of a micrograph of that pixel size; `margin` is as in `Exclusion`."""
    if margin == AUTO:
        return smeared_px(image.data)
    width, unit = margin.split()
    in_px = float(width) / (1.0 if unit == "px" else pixel_size_A)
    (height, width_px), (h, w) = image.shape, image.data.shape
    across, along = in_px * h / height, in_px * w / width_px
    return Margins(across, across, along, along)


def smeared_px(image: FloatArray) -> Margins:
    """Measure the smeared or constant margins of an `(h, w)` working image."""
    down, right = (np.abs(np.diff(image, axis=axis)) for axis in (0, 1))
    rows = _smeared_lines(down.mean(axis=1), right.mean(axis=1))
    return Margins(*rows, *_smeared_lines(right.mean(axis=0), down.mean(axis=0)))


def _smeared_lines(across: FloatArray, along: FloatArray) -> tuple[int, int]:
    """Lines at either end, by what is between each two of n, `(n - 1,)`, and along each, `(n,)`."""
    typical = max(float(np.median(along)), 1e-6)
    usual = float(np.median(across)) / typical  # other than 1 where there is drift
    along = np.maximum(along, _CONSTANT * typical)
    first, last = (across < _SMEARED * usual * beside for beside in (along[:-1], along[1:]))
    return _run(first), _run(last[::-1])


def _run(smeared: Mask) -> int:
    """Lines to the last one that is smeared, where most of those before it are."""
    near = smeared[: len(smeared) // _MOST]
    ends = np.flatnonzero(near & (2 * near.cumsum() >= np.arange(1, len(near) + 1)))
    return int(ends[-1]) + 1 if len(ends) else 0


def keep(
    detections: Picks,
    image: WorkingImage,
    spec: ModelSpec,
    exclusion: Exclusion,
    *,
    margins: Margins,
    contamination: Contamination,
    allowed: Mask | None = None,
) -> Kept:
    """Tell what is wrong with a micrograph, and leave out the detections that lie where not to
    pick.

    Args:
        detections: all that there are, in pixels of the micrograph.
        image: the micrograph at the model's scale.
        spec: of the model.
        exclusion: where not to pick.
        margins: along its borders.
        contamination: film and ice on it.
        allowed: `(h, w)` at the model's scale, where the mask lets centres lie; None without one.

    """
    flags = quality_flags(image, detections, spec, contamination)
    skipped = [flag for flag in flags if flag in exclusion.flags]
    if skipped:
        return Kept(Picks.empty(), len(detections), flags, skipped)
    at_work = image.to_working(detections)
    kept = _inside(at_work.xy_px, image, spec, margins)
    if allowed is not None:
        x, y = np.clip(at_work.xy_px.round().astype(int), 0, np.array(allowed.shape)[::-1] - 1).T
        kept &= allowed[y, x]
    if exclusion.avoid_contamination:
        kept &= ~on_contamination(at_work.xy_px, image, spec, contamination)
    return Kept(detections[kept], int((~kept).sum()), flags, [])


def _inside(xy_px: FloatArray, image: WorkingImage, spec: ModelSpec, margins: Margins) -> Mask:
    """Whether the whole circle of a particle lies within the margins; without one, all do."""
    (h, w), r = image.data.shape, spec.diameter_px / 2
    x, y = xy_px.T + 0.5  # from the corner of the first pixel
    top, bottom, left, right = (margin + r if margin else 0.0 for margin in margins)
    return np.asarray((y >= top) & (y <= h - bottom) & (x >= left) & (x <= w - right))
