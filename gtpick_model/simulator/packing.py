"""Where particles lie: two-dimensional packings from single particles to touching ones, even or
clustered.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = NDArray[np.float64]


def pack(
    rng: np.random.Generator, shape: tuple[int, int], separation_px: float, count: int, clustering: float = 0.0
) -> Points:
    """Drop up to `count` points on an `(h, w)` field, none closer than `separation_px`; returns
    `(n, 2)` x, y.

    Candidates are tried in random order and kept when free (random sequential adsorption). With
    `clustering` above 0, candidates gather around a few random centres.
    """
    height, width = shape
    candidates = rng.uniform(-0.5, (width - 0.5, height - 0.5), (6 * count, 2))
    if clustering > 0 and count > 0:
        seeds = candidates[: max(2, count // 12)]
        spread = rng.normal(0, 2.5 * separation_px, candidates.shape)
        near = seeds[rng.integers(len(seeds), size=len(candidates))] + spread
        candidates = np.where(rng.random((len(candidates), 1)) < clustering, near, candidates)
        inside = (candidates >= -0.5).all(1) & (candidates < (width - 0.5, height - 0.5)).all(1)
        candidates = candidates[inside]
    if len(candidates) == 0:
        return np.zeros((0, 2))
    neighbours = cKDTree(candidates).query_ball_point(candidates, separation_px, return_sorted=False)
    blocked = np.zeros(len(candidates), bool)
    kept: list[int] = []
    for i, near_i in enumerate(neighbours):
        if not blocked[i]:
            blocked[near_i] = True
            kept.append(i)
            if len(kept) == count:
                break
    return candidates[kept]
