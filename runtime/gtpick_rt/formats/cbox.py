"""crYOLO's `.cbox`: a STAR file of boxes by their corner, with confidences, also those below crYOLO's threshold.

The corner is the one nearest the first pixel, as in a `.box`. `_Width` and `_Height` are the box's, `_EstWidth` and
`_EstHeight` the particle's own as crYOLO sees it. A file without picks is empty.
"""

from pathlib import Path

import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.star import read_document
from gtpick_rt.formats.table import Table

COLUMNS = ("_CoordinateX", "_CoordinateY", "_Width", "_Height", "?_Confidence")


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
    score = _numbers(rows.column(4)) if rows.has_column(4) else None
    return Table(np.column_stack([x + width / 2, y + height / 2]), score)


def _numbers(column: cif.Column) -> NDArray[np.float64]:
    return np.array([cif.as_number(text) for text in column], np.float64)
