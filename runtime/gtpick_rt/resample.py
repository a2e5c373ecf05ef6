"""Antialiased resampling, the costliest part of preparing a micrograph for the network."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gtpick_rt.types import FloatArray

_SUPPORT = 2
"""Of the bicubic kernel, in pixels of the coarser image."""
_ROWS = 32
"""Made at a time, so that an image of float16 is never there as float32 in full, and what is stays in the cache."""
_SIGN_EXPONENT_FRACTION = np.array(0x8FFFE000, np.uint32).view(np.int32)
"""Where the bits of a float16 are, moved up into a float32: 1, 5 and 10 of them."""
_BIAS = np.float32(2.0 ** (127 - 15))
"""The exponents of both count from different numbers."""


def resample(image: NDArray[np.floating], shape: tuple[int, int]) -> FloatArray:
    """Bring an `(H, W)` image to `shape` by bicubic interpolation in float32, antialiased where it shrinks.

    The same as Pillow's up to rounding, in a third of the time: whole rows are combined first, which leaves little to
    do along them. Commutes with flips and transposition up to rounding.
    """
    (height, width), (h, w) = image.shape, shape
    rows = _kernel(height, h)
    fewer_rows = np.empty((h, width), np.float32)
    for start in range(0, h, _ROWS):
        part = rows[start : start + _ROWS]
        first, last = part.indices.min(), part.indices.max()
        fewer_rows[start : start + _ROWS] = part[:, first : last + 1] @ _float32(image[first : last + 1])
    transposed: FloatArray = _kernel(width, w) @ np.ascontiguousarray(fewer_rows.T)
    return np.ascontiguousarray(transposed.T)


def _float32(rows: NDArray[np.floating]) -> FloatArray:
    """The same finite numbers in float32; from float16 by moving their bits, five times as fast as NumPy's cast."""
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    bits = rows.view(np.int16).astype(np.int32) << 13
    bits &= _SIGN_EXPONENT_FRACTION
    moved = bits.view(np.float32)
    moved *= _BIAS
    return moved


@lru_cache(maxsize=16)
def _kernel(before: int, after: int) -> csr_array:
    """The `(after, before)` matrix that resamples a line of pixels."""
    step = before / after
    coarse = max(step, 1.0)
    centres = (np.arange(after) + 0.5) * step - 0.5
    reach = int(np.ceil(_SUPPORT * coarse))
    places = np.round(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = _bicubic((places - centres[:, None]) / coarse)
    weights[(places < 0) | (places >= before)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(after)[:, None], places.shape)
    used = weights != 0
    entries = (weights[used].astype(np.float32), (rows[used], places[used]))
    return csr_array(entries, shape=(after, before))


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -1/2, doi 10.1109/TASSP.1981.1163711."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))
