"""What scaling.py claims to be straight lines, a constant and a cost of each, and their figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BLUE, VERMILION = "#0072B2", "#D55E00"


class Claim(NamedTuple):
    """What should be a straight line."""

    name: str
    sweep: str
    x: str
    y: str
    x_label: str
    y_label: str
    text: str
    """The line in words, for its constant and its slope times `factor`."""
    factor: float = 1
    log: bool = False
    origin: bool = False
    """Whether the line should go through the origin."""


CLAIMS = (
    Claim(
        "seconds_against_micrographs",
        "counts",
        "micrographs",
        "seconds",
        "micrographs of 512² px",
        "seconds of a run",
        "{:.2f} s + {:.1f} ms per micrograph",
        1e3,
        log=True,
    ),
    Claim(
        "seconds_against_megapixels",
        "sizes",
        "megapixels",
        "seconds",
        "megapixels",
        "seconds per further micrograph",
        "{:.3f} s + {:.1f} ms per megapixel",
        1e3,
    ),
    Claim(
        "seconds_against_picks",
        "particles",
        "picks",
        "seconds",
        "picks in a micrograph of 4096² px",
        "seconds per further micrograph",
        "{:.2f} s + {:.3f} ms per pick",
        1e3,
    ),
    Claim(
        "peak_MB_against_micrographs",
        "counts",
        "micrographs",
        "peak_MB",
        "micrographs of 512² px",
        "peak memory (MB)",
        "{:.0f} MB + {:.2f} MB per 1,000 micrographs",
        1e3,
        log=True,
    ),
    Claim(
        "peak_MB_against_megapixels",
        "sizes",
        "megapixels",
        "peak_MB",
        "megapixels",
        "peak memory (MB)",
        "{:.0f} MB + {:.1f} MB per megapixel",
    ),
    Claim(
        "rate_against_cores",
        "cores",
        "cores",
        "micrographs_per_s",
        "cores",
        "micrographs of 4096² px per second",
        "{1:.2f} per core",
        origin=True,
    ),
)


def line(x: Sequence[float], y: Sequence[float], origin: bool = False) -> dict[str, float]:
    """Fit a straight line, on demand through the origin, with equal relative weight of all points.

    So a point at 10 counts as much as one at 10,000. The largest deviation is that of a point from
    the line, as a share of the point.
    """
    at, value = np.asarray(x, float), np.asarray(y, float)
    powers = np.column_stack([at, np.full_like(at, not origin)])
    slope, constant = np.linalg.lstsq(powers / value[:, None], np.ones_like(at))[0]
    deviation = np.abs(constant + slope * at - value) / value
    return {"constant": float(constant), "slope": float(slope), "largest_deviation": float(deviation.max())}


def lines(sweeps: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """The line of every claim."""
    columns = {claim: [[row[name] for row in sweeps[claim.sweep]] for name in (claim.x, claim.y)] for claim in CLAIMS}
    return {claim.name: line(x, y, claim.origin) for claim, (x, y) in columns.items()}


def draw(result: dict[str, Any], path: Path) -> None:
    """One panel for each claim: medians with the spread of the runs, and the line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axes, claim in zip(panels.flat, CLAIMS, strict=True):
        rows, fitted = result[claim.sweep], result["lines"][claim.name]
        at = np.array([row[claim.x] for row in rows])
        spread = [[run[claim.y] for run in row["runs"]] for row in rows]
        axes.vlines(at, [min(runs) for runs in spread], [max(runs) for runs in spread], color=BLUE)
        axes.plot(at, [row[claim.y] for row in rows], "o", color=BLUE)
        label = claim.text.format(fitted["constant"], claim.factor * fitted["slope"])
        along = np.geomspace(at[0], at[-1], 100) if claim.log else at[[0, -1]]
        axes.plot(along, fitted["constant"] + fitted["slope"] * along, color=VERMILION, label=label)
        axes.set(xlabel=claim.x_label, ylabel=claim.y_label, xscale="log" if claim.log else "linear")
        if claim.log and claim.y == "seconds":
            axes.set(yscale="log")
        else:
            axes.set(ylim=(0, 1.3 * max(map(max, spread))))
        if not claim.log:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(title=f"within {fitted['largest_deviation']:.0%} of the line", fontsize=9, title_fontsize=9)
    figure.suptitle(f"gtpick-rt pick on {result['device']}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
