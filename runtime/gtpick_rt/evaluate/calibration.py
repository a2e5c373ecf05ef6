"""Whether a score means what it says: of the picks with a score of 0.8, are 80% right?"""

from dataclasses import dataclass

import numpy as np

from gtpick_rt.evaluate.curves import Curve

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The picks with scores in [low, high); the last bin has 1 too."""

    low: float
    high: float
    picks: int
    mean_score: float | None
    """None without picks."""
    share_right: float | None
    """Of the picks, those that claimed a label; None without picks."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A reliability table."""

    expected_error: float
    """Mean over the picks of the difference between mean score and share right of their bin."""
    bins: tuple[Bin, ...]


def calibration(curve: Curve) -> Calibration | None:
    """Compare the scores of a curve's picks with how many are right; None without picks."""
    if not len(curve.score):
        return None
    index = np.minimum(curve.score * BINS, BINS - 1).astype(int)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = index == number
        n = int(inside.sum())
        score = float(curve.score[inside].mean()) if n else None
        right = float(curve.right[inside].mean()) if n else None
        if score is not None and right is not None:
            error += n * abs(score - right) / len(index)
        bins.append(Bin(low=number / BINS, high=(number + 1) / BINS, picks=n, mean_score=score, share_right=right))
    return Calibration(expected_error=error, bins=tuple(bins))
