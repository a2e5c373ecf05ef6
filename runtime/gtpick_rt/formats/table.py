"""What a coordinate file says, before it becomes picks; and the name of a micrograph, however a
program spells it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.reading.info import suffix_of

CRYOSPARC_UID = re.compile(r"^\d{21}_")
"""cryoSPARC puts one before the names of the files that it imports."""
COORDINATE_ENDINGS = ("_autopick", "_manualpick")
"""What RELION appends to the name of a micrograph for its coordinate file, before the suffix."""


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a coordinate file, in its order; columns are converted to our convention, but not
    yet judged.
    """

    xy_px: NDArray[np.float64]
    """`(n, 2)` 0-based pixel centres, x then y."""
    score: NDArray[np.float64] | None
    """`(n,)` scores of any range; None where the file has none."""
    micrograph: Sequence[str] | None = None
    """`(n,)` micrographs as the file spells them; None where the file is of the one that it is
    named after."""
    pixel_sizes_A: tuple[float, ...] = ()
    """Å per pixel of its micrographs, each value once, in ascending order; none where the file does
    not know."""


def sizes_in(values: Iterable[object]) -> tuple[float, ...]:
    """Those of `values` that can be pixel sizes, each once, in ascending order."""
    numbers = [float(value) for value in values if isinstance(value, int | float | np.number)]
    return tuple(sorted({round(number, 6) for number in numbers if 0 < number < np.inf}))


def micrograph_name(text: str) -> str:
    """Reduce a path, file name or name in a list to what programs agree on: no folder, suffix or
    cryoSPARC's uid.
    """
    name = CRYOSPARC_UID.sub("", PurePosixPath(text).name)
    name = name[: len(name) - len(suffix_of(name))]
    for ending in COORDINATE_ENDINGS:
        name = name.removesuffix(ending)
    return name
