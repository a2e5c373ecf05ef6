"""How good picks are against labels.

The rule, to be stated beside every number: a pick can match a label whose centre lies within the radius; matching is
one-to-one, with as many matches as possible and, among such matchings, the least total distance. Precision is matches /
picks, recall matches / labels, F1 their harmonic mean; micro figures pool the matches of all micrographs. A ratio whose
denominator is 0 counts as 1: where nothing was to be found and nothing was picked, nothing is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from gtpick_rt.types import Picks

Indices = NDArray[np.intp]
Distances = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures over a set of micrographs, by the rule in this module's docstring."""

    micrographs: int
    picks: int
    labels: int
    matches: int
    precision: float
    recall: float
    f1: float
    mean_f1: float
    """Mean over the micrographs of each one's F1; one without picks and labels counts as 1."""
    average_precision: float
    centre_error_px: float | None
    """Median distance of matched centres; None without matches."""


def match(picks_xy: ArrayLike, labels_xy: ArrayLike, radius_px: float) -> Indices:
    """Match `(n, 2)` picks to `(m, 2)` labels one to one.

    Returns `(k, 2)` index pairs in the order of the picks: of all matchings within `radius_px` with the largest
    possible k, the one with the least total distance.
    """
    pick, label, distance = _candidates(picks_xy, labels_xy, radius_px)
    if not len(pick):
        return np.zeros((0, 2), np.intp)
    # Picks and labels that no chain of candidates links cannot compete, so each component is solved alone.
    n, m = pick.max() + 1, label.max() + 1
    graph = coo_array((np.ones(len(pick)), (pick, n + label)), shape=(n + m, n + m))
    component = connected_components(graph, directed=False)[1][pick]
    order = np.argsort(component, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    pairs = np.concatenate([_assign(pick[part], label[part], distance[part]) for part in parts])
    return pairs[np.argsort(pairs[:, 0])]


def precision_recall(matches: int, picks: int, labels: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of so many matches; a ratio of nothing to nothing is 1."""
    return _ratio(matches, picks), _ratio(matches, labels), _ratio(2 * matches, picks + labels)


def average_precision(pairs: Sequence[tuple[Picks, Picks]], radius_px: float) -> float:
    """Area under the precision-recall curve over all micrographs, without interpolation.

    In descending order of score (ties: in the order given), each pick claims the nearest free label of its micrograph
    within `radius_px`. The result is the mean over labels of the precision at the pick that claimed it, 0 for labels
    that none did. Picks below the threshold of the file that they came from are missing from the curve.
    """
    score = np.concatenate([np.zeros(0), *(picks.score for picks, _ in pairs)])
    claimed = np.concatenate([np.zeros(0, bool), *(_claim(picks, labels, radius_px) for picks, labels in pairs)])
    labels_in_all = sum(len(labels) for _, labels in pairs)
    if labels_in_all == 0:
        return 0.0 if len(score) else 1.0
    hit = claimed[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return float(precision[hit].sum() / labels_in_all)


def evaluate(pairs: Sequence[tuple[Picks, Picks]], radius_px: float) -> Evaluation:
    """Compare (picks, labels) of each micrograph, all in the same pixels. Raises ValueError without micrographs."""
    if not pairs:
        raise ValueError("nothing to evaluate: no micrographs")
    errors, f1 = [], []
    for picks, labels in pairs:
        matched = match(picks.xy_px, labels.xy_px, radius_px)
        offset = picks.xy_px[matched[:, 0]] - labels.xy_px[matched[:, 1]]
        errors.append(np.hypot(offset[:, 0], offset[:, 1]))
        f1.append(precision_recall(len(matched), len(picks), len(labels))[2])
    centre_error = np.concatenate(errors)
    n_picks, n_labels = sum(len(picks) for picks, _ in pairs), sum(len(labels) for _, labels in pairs)
    precision, recall, micro_f1 = precision_recall(len(centre_error), n_picks, n_labels)
    return Evaluation(
        micrographs=len(pairs),
        picks=n_picks,
        labels=n_labels,
        matches=len(centre_error),
        precision=precision,
        recall=recall,
        f1=micro_f1,
        mean_f1=float(np.mean(f1)),
        average_precision=average_precision(pairs, radius_px),
        centre_error_px=float(np.median(centre_error)) if len(centre_error) else None,
    )


def _candidates(picks_xy: ArrayLike, labels_xy: ArrayLike, radius_px: float) -> tuple[Indices, Indices, Distances]:
    """All pairs within the radius: indices of picks, indices of labels, distances; ordered by pick."""
    picks = np.asarray(picks_xy, np.float64).reshape(-1, 2)
    labels = np.asarray(labels_xy, np.float64).reshape(-1, 2)
    if not (len(picks) and len(labels)):
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    near = KDTree(picks).query_ball_tree(KDTree(labels), radius_px)
    pick = np.repeat(np.arange(len(picks)), [len(found) for found in near])
    label = np.concatenate([np.asarray(found, np.intp) for found in near])
    offset = picks[pick] - labels[label]
    return pick, label, np.hypot(offset[:, 0], offset[:, 1])


def _assign(pick: Indices, label: Indices, distance: Distances) -> Indices:
    """Solve one connected component of candidates."""
    rows, row = np.unique(pick, return_inverse=True)
    columns, column = np.unique(label, return_inverse=True)
    # One non-candidate costs more than any set of candidates, so the most matches come before the least distance.
    forbidden = (len(pick) + 1) * (distance.max() + 1)
    cost = np.full((len(rows), len(columns)), forbidden)
    cost[row, column] = distance
    i, j = linear_sum_assignment(cost)
    allowed = cost[i, j] < forbidden
    return np.column_stack([rows[i[allowed]], columns[j[allowed]]])


def _claim(picks: Picks, labels: Picks, radius_px: float) -> NDArray[np.bool_]:
    """`(n,)`: whether each pick, the better first, finds a label within the radius that is still free."""
    pick, label, distance = _candidates(picks.xy_px, labels.xy_px, radius_px)
    order = np.lexsort((distance, pick))
    pick, label = pick[order], label[order]
    bounds = np.searchsorted(pick, np.arange(len(picks) + 1))
    free = np.ones(len(labels), bool)
    claimed = np.zeros(len(picks), bool)
    for index in np.argsort(-picks.score, kind="stable"):
        open_labels = [found for found in label[bounds[index] : bounds[index + 1]] if free[found]]
        if open_labels:
            free[open_labels[0]] = False
            claimed[index] = True
    return claimed


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
