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
    tree, reach = cKDTree(xy), 1.001 * fraction * diameter
    crowded = np.flatnonzero(tree.query_ball_point(xy, reach, return_length=True) > 1)
    near = tree.query_ball_point(xy[crowded], reach[crowded])
    pairs = {(min(i, j), max(i, j)) for i, found in zip(crowded.tolist(), near, strict=True) for j in found if i != j}
    i, j = np.array(sorted(pairs), int).reshape(-1, 2).T
    too_close = np.hypot(*(xy[i] - xy[j]).T) < fraction * (diameter[i] + diameter[j]) / 2
    return list(zip(i[too_close].tolist(), j[too_close].tolist(), strict=True))
