"""The index of a folder's records: what it says when it cannot be written."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gtpick_rt.output.journal import Journal
from gtpick_rt.output.layout import index_path
from gtpick_rt.output.summary import Settings
from gtpick_rt.records import MicrographRecord

SETTINGS = Settings(
    model="nano 2", model_sha256="ab", diameter_A=160.0, contrast="dark", threshold=0.4, pixel_size_A=None
)


def test_a_full_disk_is_called_that(tmp_path: Path, record_of: Callable[[str], MicrographRecord]) -> None:
    (tmp_path / ".gtpick").mkdir()
    journal = Journal(tmp_path, index_path(tmp_path))
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        for number in range(1000):
            journal.put(SETTINGS, record_of(f"{number:0100}"))
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.put(SETTINGS, record_of("a"))
    assert journal.totals(SETTINGS).picks == 3 * journal.totals(SETTINGS).micrographs
    journal.close()
