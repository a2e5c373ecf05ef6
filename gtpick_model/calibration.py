"""What a network's scores are worth: the map from its score to the share of detections that are
particles.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logit

from gtpick_rt.evaluate.curves import Curve

LARGEST_LOGIT = 12.0
"""Beyond this a score in single precision says no more than 0 or 1."""


def fit_calibration(scored: Curve) -> tuple[float, float]:
    """(a, b) with which sigmoid(a * logit(score) + b) is the probability that a detection is right.

    Platt's method: the likeliest a and b for the detections of `scored`, whose score must be the
    network's own. (1, 0), which changes nothing, where all detections are right or all are wrong:
    those tell no slope.
    """
    if scored.right.all() or not scored.right.any():
        return 1.0, 0.0
    x = np.clip(logit(scored.score), -LARGEST_LOGIT, LARGEST_LOGIT)
    sign = np.where(scored.right, -1.0, 1.0)

    def loss(ab: np.ndarray) -> float:
        return float(np.logaddexp(0, sign * (ab[0] * x + ab[1])).mean())

    a, b = minimize(loss, (1.0, 0.0), bounds=((0.05, 20.0), (-20.0, 20.0))).x
    return float(a), float(b)
