"""Figures over micrographs, each given as (picks, labels) in the same pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from gtpick_rt.evaluate.matching import match, match_boxes, unpaired_near
from gtpick_rt.types import Picks


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many picks and labels there are, how many match, and what follows."""

    picks: int
    labels: int
    matches: int
    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, matches: int, picks: int, labels: int) -> "Agreement":
        """Work out the ratios."""
        precision, recall, f1 = precision_recall(matches, picks, labels)
        return cls(picks=picks, labels=labels, matches=matches, precision=precision, recall=recall, f1=f1)


@dataclass(frozen=True, kw_only=True)
class Evaluation(Agreement):
    """Figures by the headline rule: centres within a radius."""

    micrographs: int
    mean_f1: float
    """Mean over the micrographs of each one's F1; one without picks and labels counts as 1."""
    centre_error_px: float | None
    """Median distance of matched centres; None without matches."""
    duplicates: int
    """Picks within the radius of a label that is another pick's match, and of none that is free."""


def precision_recall(matches: int, picks: int, labels: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of so many matches; a ratio of nothing to nothing is 1."""
    return _ratio(matches, picks), _ratio(matches, labels), _ratio(2 * matches, picks + labels)


def evaluate(pairs: Sequence[tuple[Picks, Picks]], radius_px: float) -> Evaluation:
    """Compare (picks, labels) of each micrograph, all in the same pixels.

    Raises ValueError without micrographs.
    """
    if not pairs:
        raise ValueError("nothing to evaluate: no micrographs")
    errors, f1, duplicates = [], [], 0
    for picks, labels in pairs:
        matched = match(picks.xy_px, labels.xy_px, radius_px)
        offset = picks.xy_px[matched[:, 0]] - labels.xy_px[matched[:, 1]]
        errors.append(np.hypot(offset[:, 0], offset[:, 1]))
        f1.append(precision_recall(len(matched), len(picks), len(labels))[2])
        duplicates += len(unpaired_near(picks.xy_px, labels.xy_px, matched, radius_px))
    centre_error = np.concatenate(errors)
    return Evaluation(
        **vars(_pooled(pairs, len(centre_error))),
        micrographs=len(pairs),
        mean_f1=float(np.mean(f1)),
        centre_error_px=float(np.median(centre_error)) if len(centre_error) else None,
        duplicates=duplicates,
    )


def evaluate_boxes(pairs: Sequence[tuple[Picks, Picks]], side_px: float) -> Agreement:
    """Compare (picks, labels) of each micrograph by square boxes of one size, one to one at an IoU
    of 0.5.
    """
    return _pooled(pairs, sum(len(match_boxes(picks.xy_px, labels.xy_px, side_px)) for picks, labels in pairs))


def count_hit(picks: Picks, places: Picks, radius_px: float) -> int:
    """Count the `places`, such as marked non-particles, that have a pick within the radius."""
    if not (len(picks) and len(places)):
        return 0
    distance, _ = KDTree(picks.xy_px).query(places.xy_px)
    return int(np.count_nonzero(distance <= radius_px))


def _pooled(pairs: Sequence[tuple[Picks, Picks]], matches: int) -> Agreement:
    return Agreement.of(matches, sum(len(picks) for picks, _ in pairs), sum(len(labels) for _, labels in pairs))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
