"""Pictures of an evaluation; importing this needs matplotlib (extra plot)."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gtpick_rt.evaluate.calibration import Calibration
from gtpick_rt.evaluate.report import Report

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#999999"


def draw(report: Report) -> bytes:
    """Draw the precision-recall curve and beside it the reliability diagram; returns a PNG.

    Where the picks have no scores there is a point for the curve, and no diagram.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curve(left, report)
    _draw_reliability(right, report.calibration)
    figure.supxlabel(report.lengths.rule, fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _draw_curve(axes: Axes, report: Report) -> None:
    pooled, curve, lowest = report.pooled, report.curve, report.lowest_score
    if curve is not None and len(curve.score):
        axes.plot(curve.recall, curve.precision, color=BLUE, label=f"AP {curve.average_precision:.3f}")
    label = f"picks{'' if lowest is None else f', score ≥ {lowest:.2f}'}: F1 {pooled.f1:.3f}"
    axes.plot(pooled.recall, pooled.precision, "o", color=VERMILION, label=label)
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")


def _draw_reliability(axes: Axes, calibration: Calibration | None) -> None:
    axes.set(xlabel="score", ylabel="share of picks that are right", xlim=(0, 1), ylim=(0, 1.02), title="Reliability")
    axes.plot((0, 1), (0, 1), "--", color=GREY, label="a score that means what it says")
    axes.grid(alpha=0.3)
    if calibration is None:
        axes.text(0.5, 0.5, "no scores", ha="center", va="center")
        return
    most = max(each.picks for each in calibration.bins)
    axes.bar(
        [each.low for each in calibration.bins],
        [each.picks / most for each in calibration.bins],
        width=[each.high - each.low for each in calibration.bins],
        align="edge",
        color=GREY,
        alpha=0.25,
        label=f"how many (tallest: {most})",
    )
    points = [(b.mean_score, b.share_right) for b in calibration.bins if b.mean_score is not None]
    error = f"expected calibration error {calibration.expected_error:.3f}"
    axes.plot(*zip(*points, strict=True), "o-", color=BLUE, label=error)
    axes.legend(loc="best")
