"""Areas of a working image that are no ice: the shadow of a beam stop, a black margin, blocks of
one value.

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

FAR, VERY_FAR = 10.0, 1000.0
"""Robust standard deviations from the median: film and dirt are nearer than the first, and nothing
that an electron makes is as far as the second."""
_MOST = 0.5
"""Of the image; of more, what is usual cannot be told."""
LARGE = 4.0
"""Squared particle diameters of an area; dirt is smaller."""
_FLAT = 0.5
"""Differences between neighbouring pixels, in those of the rest: particles that stand out far, as
where noise was removed, are no area."""
_SMEARED_PX = 2
"""Working pixels around an area that resampling has mixed with it."""
STEP = 3
"""Of the pixels, as many rows and columns apart, are looked at to tell what is usual."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outlying:
    """Areas of a working image in which nothing is to be found."""

    mask: Mask
    """`(h, w)`"""
    level: float
    """The usual level of the rest."""


def outlying_areas(image: FloatArray, diameter_px: float) -> Outlying | None:
    """Find the areas of an `(h, w)` working image that are no ice; None where there are none, or
    little else.
    """
    level, spread = usual_values(image[::STEP, ::STEP].ravel())
    if not 0 < spread < np.inf or np.abs([image.min() - level, image.max() - level]).max() <= FAR * spread:
        return None
    distance = np.abs(image - np.float32(level))
    mask = ~(distance <= VERY_FAR * spread)  # and what is not finite
    parts, count = ndimage.label(~(distance <= FAR * spread))
    steps = np.abs(np.diff(image, axis=1, append=image[:, -1:])) + np.abs(np.diff(image, axis=0, append=image[-1:]))
    usual_step = float(np.median(steps[parts == 0])) if (parts == 0).any() else 0.0
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    for number in np.flatnonzero(sizes[1:] >= LARGE * diameter_px**2) + 1:
        part = parts == number
        if float(np.median(steps[part])) <= _FLAT * usual_step:
            mask |= part
    if not mask.any() or mask.mean() > _MOST:
        return None
    return Outlying(ndimage.binary_dilation(mask, np.ones((3, 3), bool), _SMEARED_PX), level)


def fill_mirrored(image: FloatArray, mask: Mask) -> None:
    """Let an image go on in masked areas as in a mirror, as it does beyond its borders: beside an
    empty area the network scores particles lower.
    """
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    y, x = np.nonzero(mask)
    edge = nearest[:, y, x]
    sides = np.array(image.shape)[:, None] - 1
    beyond = np.clip(2 * edge - np.stack([y, x]), 0, sides)
    usable = ~mask[beyond[0], beyond[1]]
    image[y, x] = image[tuple(np.where(usable, beyond, edge))]


def near(mask: Mask, xy_px: FloatArray, radius_px: float) -> Mask:
    """Whether each of `(n, 2)` points x, y is nearer to a masked pixel than the radius, `(n,)`."""
    distance = ndimage.distance_transform_edt(~mask)
    x, y = np.clip(xy_px.round().astype(int).T, 0, np.array(mask.shape)[::-1, None] - 1)
    return np.asarray(distance[y, x] < radius_px)
