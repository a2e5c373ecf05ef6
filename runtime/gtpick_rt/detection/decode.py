"""Turn the network's output for the tiles of an image into detections on it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from gtpick_rt.detection.tile import Tile
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks


def decode(scores: FloatArray, boxes: FloatArray, tiles: Sequence[Tile], spec: ModelSpec) -> Picks:
    """Select the detections that each of the tiles answers for, in working pixels of the image.

    `scores` is `(tiles, queries)` and `boxes` `(tiles, queries, 3)`, as the model gives them.
    Dropped are detections below `spec.floor`, any that are not finite, and those outside their
    tile's core.

    The core is widened by half the merge distance. Two tiles see a particle on their seam at
    slightly different places; were the core sharp, each could leave it to the other. Two detections
    that both fall outside their widened cores are further apart than the merge distance, so nothing
    that merging would call one particle is lost, and what is found twice merging joins.
    """
    calibrated = calibrate(scores, spec)
    good = (calibrated >= spec.floor) & np.isfinite(boxes).all(axis=2) & (boxes[..., 2] > 0)
    of_tile, boxes, calibrated = np.nonzero(good)[0], boxes[good], calibrated[good]
    corners, cores_x, cores_y = (
        np.array(values, np.float32).reshape(-1, 2)[of_tile]
        for values in (
            [(tile.x0, tile.y0) for tile in tiles],
            [tile.core_x for tile in tiles],
            [tile.core_y for tile in tiles],
        )
    )
    xy, diameter = boxes[:, :2] + corners, boxes[:, 2]
    slack = spec.merge_distance / 2 * diameter
    inside = _within(xy[:, 0], cores_x, slack) & _within(xy[:, 1], cores_y, slack)
    return Picks(xy[inside], diameter[inside], calibrated[inside])


def calibrate(scores: FloatArray, spec: ModelSpec) -> FloatArray:
    """Calibrated scores in [0, 1]; NaN stays NaN."""
    a, b = spec.calibration
    return np.asarray(expit(a * logit(np.clip(scores, 0, 1)) + b), np.float32)


def _within(value: FloatArray, bounds: FloatArray, slack: FloatArray) -> NDArray[np.bool_]:
    low, high = bounds.T
    return (value >= low - slack) & (value < high + slack)
