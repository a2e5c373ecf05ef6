"""How the particles of a data set show: their size and contrast."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gtpick_rt.errors import UsageError

Contrast = Literal["dark", "bright"]
"""How particles show on the ice: dark in defocused micrographs as they come from the microscope."""
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found."""

    diameter_A: float
    """Median of the measured diameters, in whole Å as people write it; or the diameter that was
    given."""
    quartiles_A: tuple[float, float] | None
    """Between them lies the middle half of the measured diameters; None where the diameter was
    given."""
    contrast: Contrast
    micrographs: int
    """How many were looked at."""
    measured_A: float | None = None
    """What the micrographs show where another diameter was given; None where that is not known."""
    field_A: float = math.inf
    """The short side of the largest micrograph that was looked at."""
    threshold: float | None = None
    """Score from which on picks suit these micrographs; None is the model's own."""


ODD = 1.6
"""Factor between a given and a measured diameter from which that is told."""
DEAR = 10.0
"""Times the cost at the measured diameter that a given one may have without being forced: tiles
grow with the square of how much smaller it is."""


def judge(survey: Survey, force: bool = False) -> str:
    """What is odd about the diameter that was given, beside what the micrographs show, or "".

    Raises UsageError when it cannot be meant: no micrograph holds such a particle, or picking would
    cost far more than the particles need; unless that is forced.
    """
    given_A, measured_A = survey.diameter_A, survey.measured_A
    if given_A > survey.field_A:
        return _odd(
            f"--diameter {given_A:g}: no particle of {given_A:g} Å fits on the micrographs, which are up to "
            f"{survey.field_A:.0f} Å wide; correct --diameter or --pixel-size",
            force,
        )
    if measured_A is None or max(given_A / measured_A, measured_A / given_A) < ODD:
        return ""
    told = f"--diameter {given_A:g}, but the particles on the micrographs measure about {measured_A:.0f} Å"
    cost = (measured_A / given_A) ** 2
    if cost > DEAR:
        return _odd(
            f"{told}: to pick them so takes {cost:.0f} times as long; correct --diameter, or leave it out", force
        )
    return f"{told}; --diameter auto takes what is measured"


def _odd(told: str, force: bool) -> str:
    if force:
        return told
    raise UsageError(f"{told}; or pass --force if that is meant")
