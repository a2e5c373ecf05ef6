"""The index of a folder's records: what it says when it cannot be written."""

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from gtpick_rt.output.commit import commit_picks
from gtpick_rt.output.journal import Journal
from gtpick_rt.output.layout import index_path
from gtpick_rt.output.summary import Settings
from gtpick_rt.records import Failure, MicrographRecord
from gtpick_rt.types import Picks

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


def commit(out: Path, record: MicrographRecord, settings: Settings = SETTINGS) -> None:
    text = json.dumps({"settings": dataclasses.asdict(settings), "record": dataclasses.asdict(record)})
    commit_picks(out, PurePosixPath(record.stem), Picks.empty(), 0.4, text)


def test_a_rebuilding_that_fails_is_done_again_and_forgets_nothing(
    tmp_path: Path, record_of: Callable[[str], MicrographRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gtpick").mkdir()
    journal = Journal(tmp_path, index_path(tmp_path))
    for stem in "ab":
        commit(tmp_path, record_of(stem))
        journal.put(SETTINGS, record_of(stem))
    journal.put_failed(Failure(stem="bad", path="bad", kind="FormatError", message="bad"))

    def full(self: Journal) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_reconcile", full)
        with pytest.raises(sqlite3.OperationalError):
            journal.rebuild()
    with pytest.raises(sqlite3.Error):  # it does not answer as though nothing were here
        journal.totals(SETTINGS)
    journal.rebuild()
    totals = journal.totals(SETTINGS)
    assert (totals.micrographs, totals.failed) == (2, 1)
    journal.close()


def test_star_files_of_other_folders_and_copies_are_none_of_this_one(
    tmp_path: Path, record_of: Callable[[str], MicrographRecord]
) -> None:
    (tmp_path / ".gtpick").mkdir()
    commit(tmp_path, record_of("a"))
    (tmp_path / "strict" / ".gtpick").mkdir(parents=True)
    commit(tmp_path / "strict", record_of("a"), dataclasses.replace(SETTINGS, threshold=0.6))
    (tmp_path / "old").mkdir()
    shutil.copy(tmp_path / "a_autopick.star", tmp_path / "old" / "a_autopick.star")
    journal = Journal(tmp_path, index_path(tmp_path))
    assert (journal.totals(SETTINGS).micrographs, journal.last_settings(), journal.foreign) == (1, SETTINGS, None)
    journal.close()
