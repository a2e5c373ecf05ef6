"""What the readers of text files share; errors name file and line."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.encoding import decode

Row = tuple[int, dict[str, str]]
"""The number of a line, and its words by column."""


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file. Raises UsageError."""
    try:
        return decode(path.read_bytes()).splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as text ({error})") from error


def read_rows(path: Path, delimiter: str, needed: Sequence[str], header: str) -> list[Row]:
    """Read a table headed by the names of its columns, in any case and order; those `needed`, named
    `header` in errors.

    Raises UsageError.
    """
    reader = csv.DictReader(read_lines(path), delimiter=delimiter, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        if not set(needed) <= set(reader.fieldnames):
            raise UsageError(f"{path}: the first line must be {header}")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path}, after line {reader.line_num}: cannot be read as a table ({error})") from error
    for line, row in rows:
        if None in row.values():
            raise UsageError(f"{path}, line {line}: has fewer columns than the first line; correct it")
        if any(row.get(reader.restkey, ())):  # not only a delimiter at the end
            raise UsageError(f"{path}, line {line}: has more columns than the first line; correct it")
    return rows


def centres_and_scores(
    path: Path, rows: Sequence[Row], axes: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """`(n, 2)` numbers of the columns `axes`, and `(n,)` of the column score if there is one.

    Raises UsageError.
    """
    xy = [[number(row[axis], path, line) for axis in axes] for line, row in rows]
    score = [number(row["score"], path, line) for line, row in rows if "score" in row]
    return np.array(xy, np.float64).reshape(-1, 2), np.array(score, np.float64) if score else None


def number(word: str, path: Path, line: int) -> float:
    """Convert a word of a line. Raises UsageError when it is not a number."""
    try:
        return float(word)
    except ValueError:
        raise UsageError(f"{path}, line {line}: lacks a number where {word!r} stands; correct it") from None
