"""What is wrong with a micrograph, judged from its working image and its picks.

Flags inform; they remove nothing.

| flag         | what it means                                                                     |
|--------------|-----------------------------------------------------------------------------------|
| empty        | hardly a particle was found; a micrograph too faint to pick looks the same        |
| crowded      | particles lie almost as densely as discs of their diameter can at random          |
| carbon edge  | a sharp edge parts two regions of different texture or darkness: support film     |
| ice          | something dark or rough lies there, larger than a particle: ice, dirt, aggregates |
| low contrast | particles are faint: many of those expected have a score below the threshold      |

The image is judged by its cells, squares of half a particle's diameter, after a median over 5 x 5
of them, which takes away what is smaller than about two particles. Scores are taken at their word:
of ten detections that score 0.3 three are expected to be particles.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from gtpick_rt.detection.preprocess import WorkingImage, cell_means
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks

FLAGS = ("empty", "crowded", "carbon edge", "ice", "low contrast")

EMPTY_COVERAGE = 0.01
"""Expected particles, times the square of their diameter, over the area."""
CROWDED_COVERAGE = 0.5
"""Picks times the square of their diameter, over the area; discs dropped at random until no more
fits reach 0.70."""
FAINT_SHARE = 0.3
"""Of the particles expected among all detections, those below the threshold."""

_RIM_CELLS = 4
"""Two particles wide: frame alignment and filters leave streaks along the borders."""
_MIN_SIDE_CELLS = 8
"""A smaller image is judged by its picks alone."""
_BACKGROUND_CELLS = 9
"""Width of the box that, applied twice, gives the background: about that of the working image."""
_CELLS_PER_AREA = 4
"""Cells in a square of the particle's diameter."""
_TWO_LEVELS = 0.8
"""Share of the variance that lies between the two sides of an edge; 0.75 on a smooth ramp, less in
noise."""
_EDGE_STEP = 0.7
"""Share of the difference between the two sides that is there within three cells of their
border."""
_EDGE_CONTRAST = 7.0
"""That step, in standard deviations along the border."""
_EDGE_AREA = 30.0
"""Squared particle diameters on each side: larger than what lies in the ice."""
_FILM_BORDER = 0.5
"""Length of the film along the border of the image, as a share of that along its edge."""
_DARK, _ROUGH = 6.0, 12.0
"""Robust standard deviations of darkness and of texture beyond which a cell is not ice with
particles."""
_BLOB_AREA = 2.0
"""Squared particle diameters of such cells, connected."""

Mask = NDArray[np.bool_]


class _Cells(NamedTuple):
    """Maps of the micrograph without its rim, `(h, w)` cells each."""

    level: FloatArray
    """Grey value, background included."""
    darkness: FloatArray
    """Grey value below the background."""
    texture: FloatArray
    """Logarithm of the mean square of the differences between neighbouring pixels."""


def quality_flags(
    image: WorkingImage, detections: Picks, spec: ModelSpec, of_image: Mapping[str, bool] | None = None
) -> list[str]:
    """Name what is wrong with a micrograph, in the order of `FLAGS`; an empty list when nothing is.

    `detections` are all that were kept, in any pixels. Picks are here those above the model's own
    threshold, so that the flags describe the micrograph and not the threshold that was asked for.
    `of_image` is what `flags_of_image` says, where that is known.
    """
    found = {
        **_flags_of_picks(detections.score, image, spec),
        **(flags_of_image(image, spec) if of_image is None else of_image),
    }
    return [name for name in FLAGS if found.get(name)]


def _flags_of_picks(score: FloatArray, image: WorkingImage, spec: ModelSpec) -> dict[str, bool]:
    coverage = spec.diameter_px**2 / image.data.size  # of one particle
    picked = score[score >= spec.threshold]
    empty = bool(picked.sum() * coverage < EMPTY_COVERAGE)
    return {
        "empty": empty,
        "crowded": len(picked) * coverage >= CROWDED_COVERAGE,
        "low contrast": not empty and bool(picked.sum() < (1 - FAINT_SHARE) * score.sum()),
    }


def flags_of_image(image: WorkingImage, spec: ModelSpec) -> dict[str, bool]:
    """Those flags of which the image alone tells whether they hold, before it is picked."""
    if image.blank:
        return {}
    cells = _cells(image, spec)
    if min(cells.level.shape) < _MIN_SIDE_CELLS:
        return {}
    side = next((side for side in map(_side, (cells.texture, cells.level)) if side is not None), None)
    if side is None:
        return {"ice": _has_blob(cells, np.ones(cells.level.shape, bool))}
    darker = side if cells.level[side].mean() < cells.level[~side].mean() else ~side
    film = _goes_on(darker)
    # Near an edge everything is an outlier; away from it each side has a look of its own.
    ice = not film or _has_blob(cells, _eroded(side)) or _has_blob(cells, _eroded(~side))
    return {"carbon edge": film, "ice": ice}


def _cells(image: WorkingImage, spec: ModelSpec) -> _Cells:
    squares = np.zeros_like(image.data)
    for pixels, sums in ((image.data, squares), (image.data.T, squares.T)):
        step = np.diff(pixels, axis=0)
        sums[:-1] += np.square(step, out=step)
    maps = (image.coarse, np.log(cell_means(squares, spec) + np.float32(1e-6)))
    inside = (slice(_RIM_CELLS, -_RIM_CELLS),) * 2
    level, texture = (_medians(values)[inside] for values in maps)
    # Here the streaks along the borders are gone already; they reach far into the background of the
    # working image.
    background = ndimage.uniform_filter(ndimage.uniform_filter(level, _BACKGROUND_CELLS), _BACKGROUND_CELLS)
    return _Cells(level, background - level, texture)


def _medians(values: FloatArray) -> FloatArray:
    """Of the 5 x 5 cells around each; several times as fast as SciPy's median filter."""
    around = sliding_window_view(np.pad(values, 2, mode="edge"), (5, 5)).reshape(*values.shape, 25)
    return np.asarray(np.partition(around, 12)[..., 12])


def _side(values: FloatArray) -> Mask | None:
    """The smaller side of a sharp edge, or None when there is no edge."""
    threshold, share = _otsu(values)
    if share < _TWO_LEVELS:
        return None
    side = values > threshold
    side = side if side.mean() <= 0.5 else ~side
    parts, _ = ndimage.label(side)
    side = parts == np.bincount(parts[side]).argmax()
    here, there = values[_along(side)], values[_along(~side)]
    if side.sum() < _EDGE_AREA * _CELLS_PER_AREA or not (len(here) and len(there)):  # small, or a thread
        return None
    step = abs(float(np.median(here) - np.median(there)))
    between = abs(float(values[side].mean() - values[~side].mean()))
    scatter = float(np.sqrt((here.var() + there.var()) / 2))
    return side if step >= _EDGE_STEP * between and step >= _EDGE_CONTRAST * scatter else None


def _goes_on(side: Mask) -> bool:
    """Whether a side goes on beyond the image, as support film does and a large
    crystal does not.
    """
    edge = int((ndimage.distance_transform_cdt(side, "chessboard") == 1).sum())
    border = sum(int(line.sum()) for line in (side[0], side[-1], side[:, 0], side[:, -1]))
    return border >= _FILM_BORDER * edge


def _along(side: Mask) -> Mask:
    """The cells of a side that are second and third from the other."""
    distance = ndimage.distance_transform_cdt(side, "chessboard")
    return (distance == 2) | (distance == 3)


def _eroded(side: Mask) -> Mask:
    return ndimage.distance_transform_cdt(side, "chessboard") > 3


def _otsu(values: FloatArray) -> tuple[float, float]:
    """Threshold that parts the values best, and the share of their variance that is between the
    parts (Otsu, 1979).
    """
    ranked = np.sort(values, axis=None).astype(float)
    ranked -= ranked.mean()
    below = np.cumsum(ranked)[:-1]
    n = len(ranked)
    count = np.arange(1, n)
    between = below**2 / (count * (n - count))
    best = int(between.argmax())
    total = float((ranked**2).sum())
    mean = float(values.mean(dtype=float))
    return mean + (ranked[best] + ranked[best + 1]) / 2, float(between[best]) * n / total if total else 0.0


def _has_blob(cells: _Cells, region: Mask) -> bool:
    """Whether connected cells of the region, more than `_BLOB_AREA`, stand out."""
    if not region.any():
        return False
    for values, limit in ((cells.darkness, _DARK), (cells.texture, _ROUGH)):
        typical = np.median(values[region])
        spread = 1.4826 * np.median(np.abs(values[region] - typical))
        parts, _ = ndimage.label(region & (values - typical > limit * spread))
        if np.bincount(parts.ravel())[1:].max(initial=0) >= _BLOB_AREA * _CELLS_PER_AREA:
            return True
    return False
