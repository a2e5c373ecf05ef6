"""EMAN1's `.box`, which also crYOLO and RELION read.

`x y width height [score]` per line, without a header.

x and y are those of the box's corner nearest the first pixel; the particle's centre is half a box
further, as for crYOLO and RELION. A fifth column is a score as REPIC writes it, unless it holds
EMAN1's marks of a kind of box.
"""

import math
from pathlib import Path

import numpy as np

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.table import Table
from gtpick_rt.formats.text import number, read_lines
from gtpick_rt.types import Picks

EMAN_MARKS = (-1, -2, -3)
"""Ends of a helix, and a plain box."""


def box_of(diameter_px: float) -> int:
    """The smallest box, in pixels, that holds the particle and whose half is a whole number."""
    return 2 * math.ceil(diameter_px / 2)


def picks_to_box(picks: Picks, box_px: int) -> str:
    """Write the boxes of one micrograph, with scores; `box_px` is even.

    RELION and Topaz read whole numbers only, so a centre is given to half a pixel.
    """
    corners = np.rint(picks.xy_px).astype(int) - box_px // 2
    return "".join(
        f"{x}\t{y}\t{box_px}\t{box_px}\t{score:.6f}\n"
        for (x, y), score in zip(corners.tolist(), picks.score.tolist(), strict=True)
    )


def read_box(path: Path) -> Table:
    """Read the boxes of one micrograph; an empty file has none. Raises UsageError."""
    rows = []
    for line, text in enumerate(read_lines(path), start=1):
        words = text.split()
        if words and len(words) < 4:
            raise UsageError(f"{path}, line {line}: not a box; it needs x, y, width and height")
        if words:
            rows.append([number(word, path, line) for word in (*words[:5], "nan")[:5]])
    boxes = np.array(rows, np.float64).reshape(-1, 5)
    score = boxes[:, 4]
    scored = len(boxes) and not np.isnan(score).all() and not np.isin(score, EMAN_MARKS).all()
    return Table(boxes[:, :2] + boxes[:, 2:4] / 2, score if scored else None)
