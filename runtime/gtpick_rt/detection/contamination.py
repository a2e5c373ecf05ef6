"""What lies on a micrograph and is no ice with particles: support film beyond an edge, and ice or
dirt larger than a particle.

The image is judged by its cells, squares of half a particle's diameter, after a median over 5 x 5
of them, which takes away what is smaller than about two particles.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from gtpick_rt.detection.preprocess import WorkingImage, cell_means, cell_px
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

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
_EDGE_CONTRAST = 5.0
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

_DARK_LUMP, _ROUGH_LUMP, _LUMP_AREA = 5.0, 8.0, 1.0
"""The same three for ice in which nothing is to be picked."""
Mask = NDArray[np.bool_]


class Contamination(NamedTuple):
    """Maps of a micrograph, `(h, w)` cells as in `WorkingImage.coarse`; None where there is
    nothing of the kind.
    """

    film: Mask | None = None
    """Support film, on one side of an edge."""
    ice: Mask | None = None
    """What is dark or rough, and larger than a particle: ice, dirt, aggregates."""


class _Cells(NamedTuple):
    """Maps of the micrograph without its rim, `(h, w)` cells each."""

    level: FloatArray
    """Grey value, background included."""
    darkness: FloatArray
    """Grey value below the background."""
    texture: FloatArray
    """Logarithm of the mean square of the differences between neighbouring pixels."""


def find_contamination(image: WorkingImage, spec: ModelSpec) -> Contamination:
    """Find film and ice on a micrograph."""
    if image.blank or min(image.coarse.shape) < _MIN_SIDE_CELLS + 2 * _RIM_CELLS:
        return Contamination()
    cells = _cells(image, spec)
    side = next((side for side in map(_side, (cells.texture, cells.level)) if side is not None), None)
    if side is None:
        return Contamination(ice=_to_the_rim(_blobs(cells, np.ones(cells.level.shape, bool))))
    darker = side if cells.level[side].mean() < cells.level[~side].mean() else ~side
    film = _goes_on(darker)
    # Near an edge everything is an outlier; away from it each side has a look of its own.
    blobs = _blobs(cells, _eroded(side)) | _blobs(cells, _eroded(~side))
    if film:
        return Contamination(_to_the_rim(darker), _to_the_rim(blobs))
    return Contamination(ice=_to_the_rim(blobs | darker))


def on_contamination(xy_px: FloatArray, image: WorkingImage, spec: ModelSpec, found: Contamination) -> Mask:
    """Whether each of `(n, 2)` points x, y, in working pixels, lies on the film that was found, or
    in ice larger than one particle, `(n,)`.

    That is looked for in finer maps than for the flags: a flag is to be right, and here a particle
    beside a lump of ice is no loss.
    """
    squares = cell_means(_squares(image.data), spec)
    maps = (-cell_means(image.data, spec), np.log(squares + np.float32(1e-6)))
    darkness, texture = (_medians(values, 3) for values in maps)
    everywhere = np.ones(darkness.shape, bool)
    limits = ((darkness, _DARK_LUMP), (texture, _ROUGH_LUMP))
    lumps = ndimage.binary_dilation(_outliers(limits, everywhere, _LUMP_AREA))
    masked = lumps if found.film is None else lumps | found.film
    x, y = np.clip((xy_px + 0.5) // cell_px(spec), 0, np.array(masked.shape)[::-1] - 1).astype(int).T
    return np.asarray(masked[y, x])


def _to_the_rim(mask: Mask) -> Mask | None:
    """The mask of the whole micrograph; None where nothing is masked."""
    return np.pad(mask, _RIM_CELLS, mode="edge") if mask.any() else None


def _cells(image: WorkingImage, spec: ModelSpec) -> _Cells:
    maps = (image.coarse, np.log(cell_means(_squares(image.data), spec) + np.float32(1e-6)))
    inside = (slice(_RIM_CELLS, -_RIM_CELLS),) * 2
    level, texture = (_medians(values, 5)[inside] for values in maps)
    # Here the streaks along the borders are gone already; they reach far into the background of the
    # working image.
    background = ndimage.uniform_filter(ndimage.uniform_filter(level, _BACKGROUND_CELLS), _BACKGROUND_CELLS)
    return _Cells(level, background - level, texture)


def _squares(image: FloatArray) -> FloatArray:
    """Squared differences of each pixel from those below and to the right, `(h, w)`."""
    squares = np.zeros_like(image)
    for pixels, sums in ((image, squares), (image.T, squares.T)):
        step = np.diff(pixels, axis=0)
        sums[:-1] += np.square(step, out=step)
    return squares


def _medians(values: FloatArray, width: int) -> FloatArray:
    """Of the width x width cells around each; several times as fast as SciPy's median filter."""
    padded = np.pad(values, width // 2, mode="edge")
    around = sliding_window_view(padded, (width, width)).reshape(*values.shape, width**2)
    return np.asarray(np.partition(around, width**2 // 2)[..., width**2 // 2])


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


def _blobs(cells: _Cells, region: Mask) -> Mask:
    """Large parts of the region that stand out."""
    limits = ((cells.darkness, _DARK), (cells.texture, _ROUGH))
    return _outliers(limits, region, _BLOB_AREA) if region.any() else np.zeros(region.shape, bool)


def _outliers(limits: Sequence[tuple[FloatArray, float]], region: Mask, area: float) -> Mask:
    """Connected cells of the region, as many squared diameters or more, whose value in one of the
    maps lies so many robust standard deviations above the region's median.
    """
    found = np.zeros(region.shape, bool)
    for values, limit in limits:
        typical = np.median(values[region])
        spread = 1.4826 * np.median(np.abs(values[region] - typical))
        parts, _ = ndimage.label(region & (values - typical > limit * spread))
        large = np.bincount(parts.ravel()) >= area * _CELLS_PER_AREA
        large[0] = False
        found |= large[parts]
    return found
