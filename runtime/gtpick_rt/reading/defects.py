"""Pixels that say nothing of the specimen: NaN, infinite, or hot and dead ones, which stand out
from all around them.

They would cost more than themselves: one huge value drowns what the resampling and the background
make of its surroundings. Large areas, such as the shadow of a beam stop, stay as they are, and so
do images with too many NaN.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import PixelError
from gtpick_rt.records import counted

MAX_BAD_FRACTION = 0.01
"""Up to this share of pixels may be NaN or infinite (dead detector pixels, borders after motion
correction)."""
OUTLYING = 12.0
"""Robust standard deviations from the median beyond which a pixel may be hot or dead."""
_TOLD_FRACTION = 1e-4
"""Of the pixels that stand out; cosmic rays leave some in every micrograph."""
_MOST_FRACTION = 0.02
"""More on one side are an area, and no pixels that stand out."""
_AROUND = 4
"""Pixels to each side of one that are compared with it: more than columns of a detector die
together."""
_SAMPLE = 1 << 16
"""Pixels that tell the usual values."""
_INFINITY, _NEGATIVE, _MINUS_INFINITY = 0x7C00, 0x8000, 0xFC00
"""Bits of a float16; those of NaN are greater, be their sign what it may."""
_PART_BYTES = 1 << 19
"""Of an image, looked at together: they stay in the cache."""
_AT_ONCE = 1 << 13
_MAD_TO_SIGMA = 1.4826
_TAILS, _TAILS_TO_SIGMA = (0.025, 0.975), 3.92


def mended(path: Path, pixels: NDArray[np.generic], keep_float16: bool) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """`(h, w)` pixels as finite floats, without those that stand out; and what is to be said of it.

    They become float32, or stay float16 with `keep_float16`. Raises PixelError: too many are NaN or
    infinite.
    """
    is_half = keep_float16 and pixels.dtype.str[1:] == "f2"
    data = np.ascontiguousarray(pixels, dtype=np.float16 if is_half else np.float32)
    low, high = _extremes(data)
    warnings: tuple[str, ...] = ()
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = _fill_not_finite(path, data)
        warnings = (f"{counted(bad, 'NaN or infinite pixel')} replaced by the median",)
        low, high = _extremes(data)
    middle, spread = usual_values(data.ravel()[:: max(1, data.size // _SAMPLE) | 1])
    margin = OUTLYING * spread
    if spread > 0 and not (middle - margin <= low and high <= middle + margin):
        replaced = sum(_replace_outlying(data, middle, margin, sign) for sign in (1, -1))
        if replaced > _TOLD_FRACTION * data.size:
            warnings = (*warnings, f"{counted(replaced, 'pixel')} unlike all around replaced (hot or dead)")
    return data, warnings


def usual_values(values: NDArray[np.floating]) -> tuple[float, float]:
    """Median and robust standard deviation of `values`, the latter also where half of them are
    equal.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(np.float64)
        middle = float(np.median(values))
        deviation = _MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
        if deviation > 0:
            return middle, deviation
        low, high = np.quantile(values, _TAILS)
        return middle, float(high - low) / _TAILS_TO_SIGMA


def _extremes(data: NDArray[np.floating]) -> tuple[float, float]:
    """The least and the greatest value; NaN or infinite where any is."""
    parts = np.array_split(data.ravel(), math.ceil(data.nbytes / _PART_BYTES))
    if data.dtype == np.float16:
        return _extremes_of_halves(parts)
    return float(np.min([part.min() for part in parts])), float(np.max([part.max() for part in parts]))


def _extremes_of_halves(parts: list[NDArray[np.floating]]) -> tuple[float, float]:
    """Of float16 by their bits, for which NumPy is fast: without the sign they are in order."""
    bits = [part.view(np.uint16) for part in parts]
    least, most = min(int(part.min()) for part in bits), max(int(part.max()) for part in bits)
    positive = most if most < _NEGATIVE else max(int(part.view(np.int16).max()) for part in parts)
    if positive < 0:  # all are negative, and the least bits are those nearest to zero
        positive = least
    if (positive >= _INFINITY and positive < _NEGATIVE) or most >= _MINUS_INFINITY:
        return math.nan, math.nan
    low, high = np.array([most if most >= _NEGATIVE else least, positive], np.uint16).view(np.float16).tolist()
    return low, high


def _fill_not_finite(path: Path, data: NDArray[np.floating]) -> int:
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    if bad >= MAX_BAD_FRACTION * data.size:
        raise PixelError(f"{path}: {bad} of {data.size} pixels are NaN or infinite; write the micrograph again")
    data[~finite] = np.median(data[finite])
    return bad


def _replace_outlying(data: NDArray[np.floating], middle: float, margin: float, sign: int) -> int:
    """Replace pixels above (`sign` 1) or below (-1) the usual values that are so also above their
    surroundings, by these; tells how many.
    """
    flat = data.ravel()
    size = max(1, _PART_BYTES // data.itemsize)
    found = [
        start + np.flatnonzero(sign * (flat[start : start + size].astype(np.float32) - np.float32(middle)) > margin)
        for start in range(0, flat.size, size)
    ]
    places = np.concatenate(found)
    if not len(places) or len(places) > _MOST_FRACTION * data.size:
        return 0
    around = [_median_around(data, places[start : start + _AT_ONCE]) for start in range(0, len(places), _AT_ONCE)]
    level = np.concatenate(around)
    alone = sign * (flat[places].astype(np.float64) - level) > margin
    flat[places[alone]] = level[alone]
    return int(alone.sum())


def _median_around(data: NDArray[np.floating], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """The medians of the squares around pixels, `(n,)`, as far as they lie on the image."""
    height, width = data.shape
    offsets = np.arange(-_AROUND, _AROUND + 1)
    rows, columns = np.divmod(places, width)
    y = np.clip(rows[:, None] + offsets, 0, height - 1)
    x = np.clip(columns[:, None] + offsets, 0, width - 1)
    squares = data[y[:, :, None], x[:, None, :]].reshape(len(places), -1)
    return np.median(squares.astype(np.float64), axis=1)
