"""What a network's scores are worth: the map from its score to the share of detections that are
particles.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logit

from gtpick_rt.evaluate.curves import Curve

THRESHOLDS = np.linspace(0.02, 0.98, 193)
LARGEST_LOGIT = 12.0
"""Beyond this a score in single precision says no more than 0 or 1."""


def fit_calibration(*scored: Curve) -> tuple[float, float]:
    """(a, b) with which sigmoid(a * logit(score) + b) is the probability that a detection is right.

    Platt's method: the likeliest a and b for the detections of the sets `scored`, whose scores must
    be the network's own; each set weighs the same, however many detections it has. (1, 0), which
    changes nothing, where all detections are right or all are wrong: those tell no slope.
    """
    right = np.concatenate([each.right for each in scored])
    if right.all() or not right.any():
        return 1.0, 0.0
    score = np.concatenate([each.score for each in scored])
    weight = np.concatenate([np.full(len(each.score), 1 / max(len(each.score), 1)) for each in scored])
    weight /= weight.sum()
    x = np.clip(logit(score), -LARGEST_LOGIT, LARGEST_LOGIT)
    sign = np.where(right, -1.0, 1.0)

    def loss(ab: np.ndarray) -> float:
        return float((weight * np.logaddexp(0, sign * (ab[0] * x + ab[1]))).sum())

    a, b = minimize(loss, (1.0, 0.0), bounds=((0.05, 20.0), (-20.0, 20.0))).x
    return float(a), float(b)


def f1_at(scored: Curve, threshold: float) -> float:
    """F1 of the detections of at least this score; 1 where nothing was to be found
    and nothing was.
    """
    taken = scored.score >= threshold
    both = int(taken.sum()) + scored.labels
    return 2 * float(scored.right[taken].sum()) / both if both else 1.0


def shared_threshold(*scored: Curve) -> float:
    """The one threshold, of the network's own scores, at which the set that loses most of its best
    F1 loses least. Sets in which nothing was to be found say nothing of it.
    """
    scored = tuple(each for each in scored if each.labels) or scored
    f1 = np.array([[f1_at(each, threshold) for threshold in THRESHOLDS] for each in scored])
    lost = f1.max(axis=1, keepdims=True) - f1
    return float(THRESHOLDS[int(np.argmin(lost.max(axis=0)))])
