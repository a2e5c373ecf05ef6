"""Join detections of the same particle."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gtpick_rt.types import Picks


def merge(picks: Picks, fraction: float) -> Picks:
    """Of two picks closer than `fraction` of their mean diameter keep the better; the best come
    first.

    Greedy, in descending score; ties are broken by position, so that the order of `picks` does not
    matter.
    """
    ranked = picks[_rank(picks)]
    keep = np.ones(len(ranked), bool)
    for better, worse in _close_pairs(ranked, fraction):
        if keep[better]:
            keep[worse] = False
    return ranked[keep]


def _rank(picks: Picks) -> NDArray[np.intp]:
    x, y = picks.xy_px.T
    return np.lexsort((picks.diameter_px, y, x, -picks.score))


def _close_pairs(picks: Picks, fraction: float) -> list[tuple[int, int]]:
    """Index pairs (i, j), i < j, of picks that are too close, ordered by i."""
    if not len(picks):
        return []
    xy, diameter = picks.xy_px.astype(float), picks.diameter_px.astype(float)
    # The larger of a pair always has the other within its own diameter's reach; the exact test
    # follows.
    near = cKDTree(xy).query_ball_point(xy, 1.001 * fraction * diameter)
    i = np.repeat(np.arange(len(picks)), [len(found) for found in near])
    j = np.concatenate(near).astype(int)
    distance = np.hypot(*(xy[i] - xy[j]).T)
    too_close = (i != j) & (distance < fraction * (diameter[i] + diameter[j]) / 2)
    pairs = np.sort(np.column_stack([i, j])[too_close], axis=1)
    return [(int(a), int(b)) for a, b in np.unique(pairs, axis=0)]
