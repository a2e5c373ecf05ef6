"""The threshold that suits a data set, from scores alone.

Calibrated scores are probabilities. So the picks of at least some score hold as many particles as
their scores add up to, and all detections tell how many there are to be found. The threshold where
the F1 so expected is highest is half of that F1 (Lipton et al. 2014, doi
10.1007/978-3-662-44851-9_15): low where particles are faint, high where they are clear.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CREDIBLE = 0.6
"""Least F1 to be expected. Where less is, the scores are of whatever is there, and a low threshold
would pick it. Chosen on simulated fields without particles: from 0.6 on they get no more picks."""
ENOUGH = 50
"""Particles to be expected, so that chance moves the threshold little."""
WORTH = 0.02
"""Least F1 to be gained over the model's own threshold, which stays otherwise: so runs on the same
specimen have the same threshold. On simulated data sets at most 0.005 is promised, and nothing
gained (benchmarks/accuracy/found_threshold.py)."""


class Expected(NamedTuple):
    """What a set of detections promises."""

    threshold: float
    """The score from which on F1 is expected to be highest."""
    f1: float
    particles: float
    """Among all detections."""
    own_f1: float
    """At the model's own threshold."""

    @property
    def holds(self) -> bool:
        """Whether the threshold is to be used instead of the model's own."""
        return self.f1 >= CREDIBLE and self.particles >= ENOUGH and self.f1 >= self.own_f1 + WORTH


def expect(scores: ArrayLike, own: float) -> Expected:
    """Find the best threshold for detections of these calibrated scores `(n,)`, all those down to a
    model's floor; `own` is the model's threshold.
    """
    score = np.sort(np.asarray(scores, np.float64))[::-1]
    if not len(score):
        return Expected(own, 0.0, 0.0, 0.0)
    right = score.cumsum()
    f1 = 2 * right / (np.arange(1, len(score) + 1) + right[-1])
    best, taken = int(f1.argmax()), int((score >= own).sum())
    own_f1 = float(f1[taken - 1]) if taken else 0.0
    return Expected(float(score[best]), float(f1[best]), float(right[-1]), own_f1)
