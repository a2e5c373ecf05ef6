"""STAR files as RELION 3.1 to 5 write and read them. gemmi parses and quotes; rows are formatted
here for speed.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from gemmi import cif

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.encoding import number, parse, word
from gtpick_rt.formats.table import Table, sizes_in
from gtpick_rt.types import Picks

VERSION = "# version 30001"
"""Understood by RELION 3.1, 4 and 5."""

COORDINATE_COLUMNS = (
    "_rlnCoordinateX",
    "_rlnCoordinateY",
    "_rlnAutopickFigureOfMerit",
    "_rlnClassNumber",
    "_rlnAnglePsi",
)
"""RELION's own autopicking columns. Class 0 and psi 0 are its dummies, needed to join STAR
files."""

_RECORD = "# gtpick-rt "
_MAX_RECORD_BYTES = 1 << 16

BARE_NAME = re.compile(r"(?!data_|save_|loop_|stop_|global_)[a-z0-9/.][\w/.,:=@%~+-]+", re.ASCII | re.IGNORECASE)
"""Names that need no quotes. gemmi quotes more, and not every reader of STAR files knows quotes."""


def picks_to_star(picks: Picks, record: str = "") -> str:
    """Write the coordinate file of one micrograph, in its pixels; without picks, a header only.

    `record` is one line that comes after the table, as a comment.
    """
    rows = "".join(
        f"{x:.2f} {y:.2f} {score:.6f} 0 0.000000\n"
        for (x, y), score in zip(picks.xy_px.tolist(), picks.score.tolist(), strict=True)
    )
    return "".join(_table("", COORDINATE_COLUMNS, [rows])) + (f"{_RECORD}{_inert(record)}\n" if record else "")


def read_record(path: Path) -> str:
    """Read the line that `picks_to_star` put after the table, "" where there is none.

    Raises OSError.
    """
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_RECORD_BYTES))
        last = file.read().decode(errors="replace").rstrip("\n").rpartition("\n")[2]
    return last.removeprefix(_RECORD) if last.startswith(_RECORD) else ""


def _inert(record: str) -> str:
    """RELION takes "data_" for the beginning of a table even in a comment; in JSON this spells the
    same.
    """
    return record.replace("data_", "data\\u005f")


def autopick_star(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Write, piece by piece, the list that RELION's Extract reads: (micrograph name, coordinate
    file) pairs.
    """
    text = (f"{_quote(micrograph)} {_quote(coordinates)}\n" for micrograph, coordinates in rows)
    return _table("coordinate_files", ("_rlnMicrographName", "_rlnMicrographCoordinates"), text)


def output_nodes_star(node: str, label: str, number: int) -> str:
    """Write what an External job tells RELION of a file that it made: its type, by label and by
    RELION 3.1's number.
    """
    columns = ("_rlnPipeLineNodeName", "_rlnPipeLineNodeTypeLabel", "_rlnPipeLineNodeType")
    return "".join(_table("output_nodes", columns, [f"{_quote(node)} {label} {number}\n"]))


def read_coordinate_files(path: Path) -> list[tuple[str, str]] | None:
    """Read what RELION's list of picks says, see `autopick_star`: (micrograph name, coordinate
    file) pairs; None where a STAR file is no such list. Raises UsageError.
    """
    for block in read_document(path):
        names, files = (block.find_loop(f"_rlnMicrograph{what}") for what in ("Name", "Coordinates"))
        if names.get_loop() is not None and files.get_loop() is not None:
            return [(word(name), word(file)) for name, file in zip(names, files, strict=True)]
    return None


def read_star(path: Path) -> Table:
    """Read centres and, where there is a column of them, figures of merit and micrographs.

    NaN where not a number.

    Raises UsageError when the file cannot be read, or lists something else.
    """
    document = read_document(path)
    for block in document:
        if not block.find_loop("_rlnCoordinateX"):
            continue
        columns = [[number(text) for text in block.find_loop(name)] for name in COORDINATE_COLUMNS[:3]]
        x, y, score = (np.array(column, np.float64) for column in columns)
        if len(y) != len(x):
            raise UsageError(f"{path}: no column _rlnCoordinateY; give a STAR file of coordinates")
        names = block.find_loop("_rlnMicrographName")
        return Table(
            np.column_stack([x, y]),
            score if len(score) == len(x) else None,
            [word(name) for name in names] if names else None,
            _pixel_sizes_A(path, document),
        )
    raise UsageError(f"{path}: no column _rlnCoordinateX; give a STAR file of coordinates")


def _pixel_sizes_A(path: Path, document: cif.Document) -> tuple[float, ...]:
    """Of the micrographs: of our own record, else of RELION's optics groups or rows.

    The pixel size of particle images is another thing: they may be binned.
    """
    try:
        return sizes_in([json.loads(read_record(path))["record"]["pixel_size_A"]])
    except (OSError, ValueError, KeyError, TypeError):
        columns = [block.find_values("_rlnMicrographPixelSize") for block in document]
        return sizes_in(number(text) for column in columns for text in column)


def read_document(path: Path) -> cif.Document:
    """Parse a STAR file. Raises UsageError."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: cannot be read as a STAR file ({error})") from error


def _table(block: str, columns: Sequence[str], rows: Iterable[str]) -> Iterator[str]:
    header = "".join(f"{column} #{number}\n" for number, column in enumerate(columns, start=1))
    yield f"\n{VERSION}\n\ndata_{block}\n\nloop_\n{header}"
    yield from rows
    yield "\n"


def _quote(text: str) -> str:
    if BARE_NAME.fullmatch(text):
        return text
    quoted: str = cif.quote(text)
    return "\n" + quoted if quoted.startswith(";") else quoted  # a text field starts a line
