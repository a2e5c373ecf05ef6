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


@dataclass(frozen=True, eq=False)
class Curve:
    """The precision-recall curve over a set of micrographs: one point per pick, in descending score.

    Each pick in turn claims the nearest free label of its micrograph within the radius (ties: in the order given).
    Picks below the threshold of the file that they came from are missing from the curve.
    """

    score: NDArray[np.float64]
    """`(n,)` scores."""
    right: NDArray[np.bool_]
    """`(n,)`: whether the pick claimed a label."""
    labels: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """`(n,)` precision of the picks down to each one."""
        return np.cumsum(self.right) / np.arange(1, len(self.right) + 1)

    @property
    def recall(self) -> NDArray[np.float64]:
        """`(n,)` recall of the picks down to each one."""
        return np.cumsum(self.right) / max(self.labels, 1)

    @property
    def average_precision(self) -> float:
        """Mean over labels of the precision at the pick that claimed it, 0 for labels that none did."""
        if self.labels == 0:
            return 0.0 if len(self.score) else 1.0
        return float(self.precision[self.right].sum() / self.labels)

    def best(self) -> tuple[float, float]:
        """The highest F1 that a threshold gives, and that threshold; it is 1 without picks."""
        if not len(self.score):
            return (0.0 if self.labels else 1.0), 1.0
        f1 = 2 * np.cumsum(self.right) / (np.arange(1, len(self.right) + 1) + self.labels)
        last = np.flatnonzero(np.append(np.diff(self.score) != 0, True))  # a threshold takes all picks of one score
        best = last[np.argmax(f1[last])]
        return float(f1[best]), float(self.score[best])


def curve(pairs: Sequence[tuple[Picks, Picks]], radius_px: float) -> Curve:
    """Draw the curve of (picks, labels) of each micrograph, all in the same pixels."""
    score = np.concatenate([np.zeros(0), *(picks.score for picks, _ in pairs)])
    claimed = np.concatenate([np.zeros(0, bool), *(_claim(picks, labels, radius_px) for picks, labels in pairs)])
    order = np.argsort(-score, kind="stable")
    return Curve(score[order], claimed[order], sum(len(labels) for _, labels in pairs))


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
        average_precision=curve(pairs, radius_px).average_precision,
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
