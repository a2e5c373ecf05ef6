"""How the particles of a data set show: their size and contrast."""

from dataclasses import dataclass
from typing import Literal, get_args

Contrast = Literal["dark", "bright"]
"""How particles show on the ice: dark in defocused micrographs as they come from the microscope."""
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found."""

    diameter_A: float
    """Median of the measured diameters, or the diameter that was given."""
    quartiles_A: tuple[float, float] | None
    """Between them lies the middle half of the measured diameters; None where the diameter was
    given."""
    contrast: Contrast
    micrographs: int
    """How many were looked at."""
    threshold: float | None = None
    """Score from which on picks suit these micrographs best; None where they do not show it."""
