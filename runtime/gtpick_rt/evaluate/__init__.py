"""How good picks are against labels.

The rule, to be stated beside every number: a pick can match a label whose centre lies within the radius; matching is
one-to-one, with as many matches as possible and, among such matchings, the least total distance. Precision is matches /
picks, recall matches / labels, F1 their harmonic mean; micro figures pool the matches of all micrographs. A ratio whose
denominator is 0 counts as 1: where nothing was to be found and nothing was picked, nothing is wrong.

Beside it stands the same by boxes: square, of the nominal diameter, matched one to one at an IoU of 0.5 or more. That
is never more lenient than a radius of a third of the diameter.
"""

from gtpick_rt.evaluate.calibration import Bin, Calibration, calibration
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.evaluate.figures import Agreement, Evaluation, count_hit, evaluate, evaluate_boxes, precision_recall
from gtpick_rt.evaluate.matching import match, match_boxes

__all__ = [
    "Agreement",
    "Bin",
    "Calibration",
    "Curve",
    "Evaluation",
    "calibration",
    "count_hit",
    "curve",
    "evaluate",
    "evaluate_boxes",
    "match",
    "match_boxes",
    "precision_recall",
]
