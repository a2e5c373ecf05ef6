"""Precision and recall at every threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.evaluate.matching import candidates
from gtpick_rt.types import Picks


@dataclass(frozen=True, eq=False)
class Curve:
    """The precision-recall curve over a set of micrographs: one point per pick, in descending
    score.

    Each pick in turn claims the nearest free label of its micrograph within the radius (ties: in
    the order given). Picks below the threshold of the file that they came from are missing from the
    curve.
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
        """Mean over labels of the precision at the pick that claimed it, 0 for labels that none
        did.
        """
        if self.labels == 0:
            return 0.0 if len(self.score) else 1.0
        return float(self.precision[self.right].sum() / self.labels)

    def precision_at(self, recall: float) -> float | None:
        """Precision of the best-scored picks that together reach a recall.

        None where all picks do not.
        """
        reached = np.flatnonzero(self.recall >= recall)
        return float(self.precision[reached[0]]) if len(reached) else None

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


def _claim(picks: Picks, labels: Picks, radius_px: float) -> NDArray[np.bool_]:
    """`(n,)`: whether each pick, the better first, finds a label within the radius that is still
    free.
    """
    pick, label, distance = candidates(picks.xy_px, labels.xy_px, radius_px)
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
