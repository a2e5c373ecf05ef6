"""Areas of a working image that are no ice: the shadow of a beam stop, a black margin, blocks of one
value.

They lie so far from the usual level that they would drag the background of their surroundings with
them, and their borders would look like something. The particles beside them are to be found all the
same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gtpick_rt.reading.defects import usual_values
from gtpick_rt.types import FloatArray

FAR = 10.0
"""Robust standard deviations from the median: film and dirt are nearer."""
_MOST = 0.5
"""Of the image; of more, what is usual cannot be told."""
_LARGE = 4.0
"""Squared particle diameters of an area that is blanked; dirt and a cluster of particles are smaller."""
_SMEARED_PX = 2
"""Working pixels around an area that resampling has mixed with it."""
_STEP = 3
"""Of the pixels, as many rows and columns apart, are looked at to tell what is usual."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outlying:
    """Pixels of a working image that are far from the usual level."""

    background: Mask
    """`(h, w)`: they say nothing of the background."""
    areas: Mask
    """`(h, w)`: those of large areas, in which nothing is to be found."""
    level: float
    """The usual level."""


def outlying_areas(image: FloatArray, diameter_px: float) -> Outlying | None:
    """Find what is far from the usual level of an `(h, w)` working image; None where nothing is, or too
    much.
    """
    level, spread = usual_values(image[::_STEP, ::_STEP].ravel())
    margin = FAR * spread
    if not 0 < spread < np.inf or (image.min() >= level - margin and image.max() <= level + margin):
        return None
    far = ~(np.abs(image - np.float32(level)) <= margin)  # and what is not finite
    if not far.any() or far.mean() > _MOST:
        return None
    parts, count = ndimage.label(far)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    areas = (sizes >= _LARGE * diameter_px**2)[parts]
    square = np.ones((3, 3), bool)
    areas = ndimage.binary_dilation(areas, square, _SMEARED_PX) if areas.any() else areas
    return Outlying(far | areas, areas, level)
