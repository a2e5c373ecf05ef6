"""What the index of another run tells, to which nobody writes meanwhile."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gtpick_rt.output.summary import Settings
from gtpick_rt.records import Failure, MicrographRecord

UNSOUND = (
    *(ValueError, KeyError, TypeError, RecursionError),  # of reading
    *(OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError),  # of noting
)
"""What comes of a record that is none of ours."""


def failures_of(index: Path) -> list[Failure]:
    """The failures that it notes; those that it cannot tell are tried again by the next run."""
    try:
        return [Failure(**json.loads(record)) for (record,) in _rows(index, "SELECT record FROM failed ORDER BY rowid")]
    except UNSOUND:
        return []


def picked_of(index: Path, holds: Callable[[str], bool]) -> Iterator[tuple[Settings, MicrographRecord]]:
    """What was picked of the stems that it holds, and with which settings, as far as is told."""
    query = "SELECT stem, json, record FROM picked JOIN settings ON settings.id = picked.settings ORDER BY picked.rowid"
    for _, settings, record in filter(lambda row: holds(row[0]), _rows(index, query)):
        with contextlib.suppress(*UNSOUND):
            yield Settings(**json.loads(settings)), MicrographRecord(**json.loads(record))


def _rows(index: Path, query: str) -> list[tuple[Any, ...]]:
    """The answer to a query; none where the index cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro&nolock=1", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []
