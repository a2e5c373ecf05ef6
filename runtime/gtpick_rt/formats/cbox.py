"""crYOLO's `.cbox`: a STAR file of boxes by their corner, with confidences, also those below
crYOLO's threshold.

The corner is the one nearest the first pixel, as in a `.box`. `_Width` and `_Height` are the box's,
`_EstWidth` and `_EstHeight` the particle's own as crYOLO sees it. A file without picks is empty.
"""

from pathlib import Path

import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.encoding import number
from gtpick_rt.formats.star import read_document
from gtpick_rt.formats.table import Table
from gtpick_rt.types import Picks

UNSCORED = ("<na>", "nan")
"""How napari's box manager writes that a box has no confidence, in lower case."""
COLUMNS = ("_CoordinateX", "_CoordinateY", "_Width", "_Height", "?_Confidence")
_HEAD = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
"""
_TAIL = """
data_cryolo_include

loop_
_slice_index #1
"""


def detections_to_cbox(detections: Picks, box_px: int) -> str:
    """Write all that was detected on one micrograph, for the boxmanager's slider to choose from.

    `box_px` is even.
    """
    if not len(detections):
        return ""
    half = box_px / 2
    rows = zip(detections.xy_px.tolist(), detections.diameter_px.tolist(), detections.score.tolist(), strict=True)
    lines = "".join(
        f"{x - half:.2f} {y - half:.2f} <NA> {box_px} {box_px} <NA> {size:.2f} {size:.2f} {score:.6f} 1 <NA>\n"
        for (x, y), size, score in rows
    )
    return _HEAD + lines + _TAIL


def read_cbox(path: Path) -> Table:
    """Read the boxes of one micrograph. Raises UsageError."""
    document = read_document(path)
    for block in document:
        if block.find_loop("_CoordinateX"):
            return _boxes(path, block)
    if len(document):
        raise UsageError(f"{path}: no column _CoordinateX; give a .cbox file as crYOLO writes it")
    return Table(np.zeros((0, 2)), np.zeros(0))


def _boxes(path: Path, block: cif.Block) -> Table:
    rows = block.find(list(COLUMNS))
    if rows.width() == 0:
        raise UsageError(f"{path}: _CoordinateX, _CoordinateY, _Width and _Height must stand together; correct it")
    x, y, width, height = (_numbers(rows.column(index)) for index in range(4))
    score = _confidences(rows.column(4)) if rows.has_column(4) else None
    return Table(np.column_stack([x + width / 2, y + height / 2]), score)


def _confidences(column: cif.Column) -> NDArray[np.float64] | None:
    """None where no box has one; a box without one, as napari's box manager writes those that a
    person draws, is sure.
    """
    drawn = np.array([text.strip("'\"").lower() in UNSCORED for text in column], bool)
    return np.where(drawn, 1.0, _numbers(column)) if not drawn.all() else None


def _numbers(column: cif.Column) -> NDArray[np.float64]:
    return np.array([number(text) for text in column], np.float64)
