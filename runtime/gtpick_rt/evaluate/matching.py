"""Pairing picks with labels one to one."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

Indices = NDArray[np.intp]
Distances = NDArray[np.float64]

MIN_IOU = 0.5
"""Of the boxes of a match, where boxes are matched."""


def match(picks_xy: ArrayLike, labels_xy: ArrayLike, radius_px: float) -> Indices:
    """Match `(n, 2)` picks to `(m, 2)` labels one to one.

    Returns `(k, 2)` index pairs in the order of the picks: of all matchings within `radius_px` with
    the largest possible k, the one with the least total distance.
    """
    return _pair(*candidates(picks_xy, labels_xy, radius_px))


def match_boxes(picks_xy: ArrayLike, labels_xy: ArrayLike, side_px: float) -> Indices:
    """Match as `match` does, but by square boxes of one size that overlap with an IoU of at least
    `MIN_IOU`.

    Returns `(k, 2)` index pairs; among the largest matchings, those with the greatest total IoU.
    """
    # Two such boxes are apart by a third of their side at most: along a side, and by less on the
    # diagonal.
    pick, label, _ = candidates(picks_xy, labels_xy, side_px / 3)
    shift = np.abs(_points(picks_xy)[pick] - _points(labels_xy)[label]) / side_px
    shared = (1 - shift).prod(axis=1)
    iou = shared / (2 - shared)
    near = iou >= MIN_IOU
    return _pair(pick[near], label[near], 1 - iou[near])


def unpaired_near(picks_xy: ArrayLike, labels_xy: ArrayLike, pairs: Indices, radius_px: float) -> Indices:
    """Find the picks without a partner in `pairs`, of `match`, that are within the radius of a
    label all the same.
    """
    return np.setdiff1d(candidates(picks_xy, labels_xy, radius_px)[0], pairs[:, 0])


def candidates(picks_xy: ArrayLike, labels_xy: ArrayLike, radius_px: float) -> tuple[Indices, Indices, Distances]:
    """All pairs within the radius: indices of picks, indices of labels, distances;
    ordered by pick.
    """
    picks, labels = _points(picks_xy), _points(labels_xy)
    if not (len(picks) and len(labels)):
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    near = KDTree(picks).query_ball_tree(KDTree(labels), radius_px)
    pick = np.repeat(np.arange(len(picks)), [len(found) for found in near])
    label = np.concatenate([np.asarray(found, np.intp) for found in near])
    offset = picks[pick] - labels[label]
    return pick, label, np.hypot(offset[:, 0], offset[:, 1])


def _pair(pick: Indices, label: Indices, cost: Distances) -> Indices:
    """Choose among candidates: the most pairs, then the least total cost."""
    if not len(pick):
        return np.zeros((0, 2), np.intp)
    # Picks and labels that no chain of candidates links cannot compete, so each component is solved
    # alone.
    n, m = pick.max() + 1, label.max() + 1
    graph = coo_array((np.ones(len(pick)), (pick, n + label)), shape=(n + m, n + m))
    component = connected_components(graph, directed=False)[1][pick]
    order = np.argsort(component, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    pairs = np.concatenate([_assign(pick[part], label[part], cost[part]) for part in parts])
    return pairs[np.argsort(pairs[:, 0])]


def _assign(pick: Indices, label: Indices, cost: Distances) -> Indices:
    """Solve one connected component of candidates."""
    rows, row = np.unique(pick, return_inverse=True)
    columns, column = np.unique(label, return_inverse=True)
    # One non-candidate costs more than any set of candidates, so the most matches come before the
    # least total cost.
    forbidden = (len(pick) + 1) * (cost.max() + 1)
    costs = np.full((len(rows), len(columns)), forbidden)
    costs[row, column] = cost
    i, j = linear_sum_assignment(costs)
    allowed = costs[i, j] < forbidden
    return np.column_stack([rows[i[allowed]], columns[j[allowed]]])


def _points(xy: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(xy, np.float64).reshape(-1, 2)
