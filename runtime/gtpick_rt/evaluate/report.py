"""All figures about a set of picks, as `gtpick-rt evaluate` gives them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gtpick_rt.evaluate.calibration import Calibration, calibration
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.evaluate.figures import Agreement, Evaluation, count_hit, evaluate, evaluate_boxes
from gtpick_rt.evaluate.loading import Compared


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What the matching is measured by."""

    diameter_px: float
    radius_px: float
    pixel_size_A: float | None = None

    def in_A(self, length_px: float | None) -> float | None:
        """Convert pixels to Å; None where the pixel size is unknown."""
        return None if length_px is None or self.pixel_size_A is None else length_px * self.pixel_size_A

    @property
    def rule(self) -> str:
        """The matching rule in words."""
        share = self.radius_px / self.diameter_px
        radius_A = self.in_A(self.radius_px)
        also = "" if radius_A is None else f" = {radius_A:.1f} Å"
        return f"one-to-one matching within {self.radius_px:.1f} px{also} ({share:.2f} of the diameter)"


@dataclass(frozen=True, kw_only=True)
class MicrographFigures(Agreement):
    """Figures of one micrograph by the headline rule, and its F1 by boxes."""

    micrograph: str
    f1_iou: float
    centre_error_px: float | None
    centre_error_A: float | None
    duplicates: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What can be said of picks against labels."""

    lengths: Lengths
    pooled: Evaluation
    boxes: Agreement
    """By square boxes of the diameter, at an IoU of 0.5."""
    curve: Curve | None
    """Over all detections; None where they have no scores."""
    calibration: Calibration | None
    """Of all detections; None where they have no scores."""
    lowest_score: float | None
    """Among the picks; None without picks or scores."""
    negatives: int | None
    """Places marked as no particle; None where nobody marked any."""
    negatives_hit: int | None
    """Those with a pick within the radius."""
    micrographs: list[MicrographFigures]

    @property
    def average_precision(self) -> float | None:
        """Over all detections; None where they have no scores."""
        return None if self.curve is None else self.curve.average_precision

    @property
    def best(self) -> tuple[float, float] | None:
        """The highest F1 that a threshold would have given on these very labels, and that
        threshold.
        """
        return None if self.curve is None else self.curve.best()

    @property
    def duplicate_share(self) -> float:
        """Duplicates among the picks."""
        return self.pooled.duplicates / max(self.pooled.picks, 1)

    def record(self) -> dict[str, Any]:
        """All of it for JSON, but for the curve."""
        best = self.best
        return {
            "matching": self.lengths.rule + "; most matches, then least total distance",
            **asdict(self.lengths),
            **asdict(self.pooled),
            "average_precision": self.average_precision,
            "centre_error_A": self.lengths.in_A(self.pooled.centre_error_px),
            "duplicate_share": self.duplicate_share,
            "iou50": asdict(self.boxes),
            "lowest_score": self.lowest_score,
            "best_f1": best and best[0],
            "best_threshold": best and best[1],
            "calibration": self.calibration and asdict(self.calibration),
            "negatives": self.negatives,
            "negatives_hit": self.negatives_hit,
            "per_micrograph": [asdict(figures) for figures in self.micrographs],
        }


def report(compared: Sequence[Compared], lengths: Lengths) -> Report:
    """Work out all figures. Raises ValueError without micrographs."""
    pairs = [(each.picks, each.labels) for each in compared]
    drawn = curve([(each.detections, each.labels) for each in compared], lengths.radius_px)
    scored = not len(drawn.score) or bool((drawn.score != 1).any())  # files without scores read as 1
    lowest = [float(each.picks.score.min()) for each in compared if len(each.picks)]
    marked = [(each.picks, each.negatives) for each in compared if each.negatives is not None]
    return Report(
        lengths=lengths,
        pooled=evaluate(pairs, lengths.radius_px),
        boxes=evaluate_boxes(pairs, lengths.diameter_px),
        curve=drawn if scored else None,
        calibration=calibration(drawn) if scored else None,
        lowest_score=min(lowest) if scored and lowest else None,
        negatives=sum(len(places) for _, places in marked) if marked else None,
        negatives_hit=sum(count_hit(*each, lengths.radius_px) for each in marked) if marked else None,
        micrographs=[_figures(each, lengths) for each in compared],
    )


def _figures(compared: Compared, lengths: Lengths) -> MicrographFigures:
    pair = [(compared.picks, compared.labels)]
    found = evaluate(pair, lengths.radius_px)
    return MicrographFigures(
        **vars(Agreement.of(found.matches, found.picks, found.labels)),
        micrograph=compared.name,
        f1_iou=evaluate_boxes(pair, lengths.diameter_px).f1,
        centre_error_px=found.centre_error_px,
        centre_error_A=lengths.in_A(found.centre_error_px),
        duplicates=found.duplicates,
    )
