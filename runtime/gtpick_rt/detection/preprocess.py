"""Bring a micrograph to the model's scale and grey values."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter1d

from gtpick_rt.detection.outlying import Outlying, fill_mirrored, outlying_areas
from gtpick_rt.detection.resample import resample
from gtpick_rt.errors import PixelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks

MAX_UPSAMPLING = 2.0
"""A micrograph coarser than this holds too little of the particle to recognise it."""
ROUNDING = 8 * np.finfo(np.float32).eps
"""Contrast over the grey level that resampling makes of a constant image."""
_LEAST_WEIGHT = 1e-3
"""Share of the pixels around one that tell its background."""
MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkingImage:
    """A micrograph as the model sees it, and the way back to its own pixels."""

    data: FloatArray
    """`(h, w)` working pixels: no background, median 0, robust standard deviation 1, clipped."""
    shape: tuple[int, int]
    """`(H, W)` of the micrograph."""
    coarse: FloatArray
    """`cell_means` of the micrograph at working scale, its background included."""
    blank: bool = False
    """Half of the pixels or more equal the background, as in a constant image: `data` is zero,
    nothing to find."""
    outside: NDArray[np.bool_] | None = None
    """`(h, w)`: areas that are no ice, such as the shadow of a beam stop, in which `data` goes on
    as in a mirror; None without any."""

    def to_micrograph_px(self, xy: FloatArray) -> FloatArray:
        """Map `(n, 2)` x, y from working to micrograph pixels, both 0-based pixel centres."""
        return ((xy + np.float32(0.5)) * self._zoom() - np.float32(0.5)).astype(np.float32)

    def to_micrograph(self, picks: Picks) -> Picks:
        """Map picks from working to micrograph pixels; diameters by the geometric mean of the axes'
        scales.
        """
        diameter_px = picks.diameter_px * np.sqrt(self._zoom().prod())
        return Picks(self.to_micrograph_px(picks.xy_px), diameter_px.astype(np.float32), picks.score)

    def to_working(self, picks: Picks) -> Picks:
        """Map picks from micrograph to working pixels: the inverse of `to_micrograph`."""
        xy = (picks.xy_px + np.float32(0.5)) / self._zoom() - np.float32(0.5)
        diameter_px = picks.diameter_px / np.sqrt(self._zoom().prod())
        return Picks(xy.astype(np.float32), diameter_px.astype(np.float32), picks.score)

    def inverted(self) -> "WorkingImage":
        """The same image with dark and bright exchanged."""
        return replace(self, data=-self.data, coarse=-self.coarse)

    def _zoom(self) -> FloatArray:
        """Micrograph pixels per working pixel along x and y."""
        (height, width), (h, w) = self.shape, self.data.shape
        return np.array([width / w, height / h], np.float32)


class Preparer(Protocol):
    """What brings micrographs to a model's scale and grey values, for several threads at a time.

    Whoever opened it closes it.
    """

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph as `to_working_scale` does. Raises PixelError."""
        ...

    def close(self) -> None:
        """Give back all that it holds. May be called again."""
        ...


class NumpyPreparer:
    """The reference, on the processor."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph; see `to_working_scale`."""
        return to_working_scale(micrograph, diameter_A, self._spec)

    def close(self) -> None:
        """There is nothing to give back."""


def to_working_scale(micrograph: Micrograph, diameter_A: float, spec: ModelSpec) -> WorkingImage:
    """Resample until the nominal particle diameter is `spec.diameter_px`, then flatten and
    normalise.

    Commutes with flips and 90° rotations up to float rounding. Raises PixelError when the
    micrograph is too coarse for this diameter, or smaller than one particle, or when its pixels are
    too large to reckon with.
    """
    shape = working_shape(micrograph, diameter_A, spec)
    image = resample(micrograph.data, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        outside = outlying_areas(image, spec.diameter_px)
    data, sigma = _normalise(image, spec, outside)
    if not np.isfinite(sigma):
        raise PixelError(f"{micrograph.path}: its pixels are too large to reckon with; write it again, scaled down")
    height, width = micrograph.data.shape
    mask = None if outside is None else outside.mask
    return WorkingImage(data, (height, width), cell_means(image, spec), blank=sigma == 0, outside=mask)


def cell_means(image: FloatArray, spec: ModelSpec) -> FloatArray:
    """Means of an `(h, w)` working image over squares of half a particle's diameter, cut short at
    the far borders.
    """
    return np.asarray(Image.fromarray(image).reduce(cell_px(spec)))


def cell_px(spec: ModelSpec) -> int:
    """Side of a cell in working pixels."""
    return max(1, round(spec.diameter_px / 2))


def working_shape(micrograph: Micrograph, diameter_A: float, spec: ModelSpec) -> tuple[int, int]:
    """`(h, w)` at which the nominal particle diameter is `spec.diameter_px`. Raises PixelError."""
    diameter_px = diameter_A / micrograph.pixel_size_A
    scale = spec.diameter_px / diameter_px
    what = (
        f"{micrograph.path}: a particle of {diameter_A:g} Å is {diameter_px:.1f} px at {micrograph.pixel_size_A:g} Å/px"
    )
    if scale > MAX_UPSAMPLING:
        need = spec.diameter_px / MAX_UPSAMPLING
        raise PixelError(f"{what}, and {spec.name} needs at least {need:g} px; check --diameter and --pixel-size")
    height, width = micrograph.data.shape
    if min(height, width) < diameter_px:
        raise PixelError(f"{what}, larger than the image of {width} x {height} px; check --diameter and --pixel-size")
    return max(1, round(height * scale)), max(1, round(width * scale))


def _normalise(image: FloatArray, spec: ModelSpec, outside: Outlying | None) -> tuple[FloatArray, float]:
    """Subtract the background, divide by the robust standard deviation and clip.

    Returns also that deviation: 0 where there is no contrast, and not finite where the arithmetic
    overflowed.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        background = _background(image, spec.highpass_px) if outside is None else _without(image, outside, spec)
        level = np.abs(background.mean())
        flat = np.subtract(image, background, out=background)
        ranked = flat.flatten() if outside is None else flat[~outside.mask]
        flat -= _median(ranked)
        np.abs(flat.ravel() if outside is None else flat[~outside.mask], out=ranked)
        sigma = np.float32(MAD_TO_SIGMA) * _median(ranked)
        if sigma <= ROUNDING * level < np.inf:
            return np.zeros_like(flat), 0.0
        flat /= sigma
        if outside is not None:
            fill_mirrored(flat, outside.mask)
        return np.clip(flat, -spec.clip, spec.clip, out=flat), float(sigma)


def _without(image: FloatArray, outside: Outlying, spec: ModelSpec) -> FloatArray:
    """The background of the other pixels, and the usual level where there are none far and wide."""
    weight = _background((~outside.mask).astype(np.float32), spec.highpass_px)
    level = np.float32(outside.level)
    known = _background(np.where(outside.mask, np.float32(0), image - level), spec.highpass_px)
    return np.divide(known, weight, out=np.zeros_like(known), where=weight > _LEAST_WEIGHT) + level


def _median(values: FloatArray) -> np.float32:
    """The median, NaN where one of `values` is, which are put in another order; in a fifth of the
    time of NumPy's.

    NumPy partitions them at three places, and is slow at more than one.
    """
    middle = values.size // 2
    values.partition(middle)
    if np.isnan(values[middle:].max()):
        return np.float32(np.nan)
    below = values[middle] if values.size % 2 else values[:middle].max()
    return np.float32((below + values[middle]) / 2)


def _background(image: FloatArray, width_px: int) -> FloatArray:
    """Box filter applied twice: close to a Gaussian, at a cost that does not depend
    on the width.
    """
    for _ in ("along the rows", "down the columns"):  # which SciPy is slow to walk
        smooth = uniform_filter1d(image, width_px, mode="reflect")
        uniform_filter1d(smooth, width_px, mode="reflect", output=smooth)
        image = np.ascontiguousarray(smooth.T)
    return image
