"""Whether the integers of an image have a sign.

Mode 0 of an MRC file is of signed bytes by the standard, of unsigned ones by what IMOD and SerialEM
have long written; IMOD says which in a flag of its own. Where nothing is said, or something false,
it shows in the histogram: read the wrong way, it is torn, with the one half of its values at each
end.
"""

import numpy as np
from numpy.typing import NDArray

_TAILS = (0.02, 0.98)
"""Shares of the pixels between which the others reach: hot and saturated pixels tell nothing."""
_CLEARLY = 1.5
"""Times as narrow as the histogram as declared must the other be, where a sign is declared."""
_SAMPLE = 1 << 20
"""Pixels that are looked at."""
_LEAST = 1000
"""Pixels without which there is no histogram to speak of."""


def with_sign(pixels: NDArray[np.generic], source: str = "") -> tuple[NDArray[np.generic], str]:
    """`(h, w)` pixels as signed or unsigned as they are meant, and a word on it where that is not
    as declared.

    `source` says who has declared the type; "" where nobody has.
    """
    if pixels.dtype.kind not in "iu" or pixels.dtype.itemsize > 2 or pixels.size < _LEAST:
        return pixels, ""
    other = pixels.view(pixels.dtype.str.translate({ord("i"): "u", ord("u"): "i"}))
    step = max(1, pixels.size // _SAMPLE) | 1  # odd, lest it falls into step with the columns
    declared, found = (_width(each.ravel()[::step]) for each in (pixels, other))
    if found * (_CLEARLY if source else 1) >= declared:
        return pixels, ""
    kind = "unsigned" if other.dtype.kind == "u" else "signed"
    against = f", against {source}" if source else ""
    return other, f"read as {kind} {8 * other.dtype.itemsize}-bit integers, by the histogram{against}"


def _width(values: NDArray[np.generic]) -> float:
    low, high = np.quantile(values.astype(np.float32), _TAILS)
    return float(high - low)
