"""What is known of every micrograph of an output folder: an index of the records in its STAR files.

The STAR files are the truth. The index spares reading them all: it is brought up to date with their
names when it is opened, and made anew when it is missing or damaged, so that it never has to be
synced to disk.
"""

import contextlib
import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from gtpick_rt.formats.star import read_record
from gtpick_rt.output.contents import stems_in
from gtpick_rt.output.index_files import remove_index
from gtpick_rt.output.layout import COORDS_SUFFIX, star_path
from gtpick_rt.output.other_index import UNSOUND, failures_of
from gtpick_rt.output.summary import Settings, Totals
from gtpick_rt.records import Failure, MicrographRecord, PickedFrom

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, json TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS picked (
    stem TEXT PRIMARY KEY, settings INTEGER, name TEXT, size INTEGER, mtime_ns INTEGER, pixel_size_A REAL,
    picks INTEGER, detections INTEGER, flags TEXT, record TEXT);
CREATE TABLE IF NOT EXISTS failed (stem TEXT PRIMARY KEY, record TEXT);
PRAGMA user_version = 3;
"""
_VERSION = 3


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_FIELDS = dataclasses.fields(MicrographRecord)
_SOUND_FIELDS = " AND ".join(
    [
        "json_extract(record, '$.stem') = stem",
        *(f"json_type(record, '$.{each.name}') IS NOT NULL" for each in _FIELDS if _is_needed(each)),
        "json_remove(record, " + ", ".join(f"'$.{each.name}'" for each in _FIELDS) + ") = '{}'",
    ]
)
_SOUND = f"""CASE WHEN typeof(record) <> 'text' THEN 0 WHEN NOT json_valid(record) THEN 0
ELSE ifnull({_SOUND_FIELDS}, 0) END"""
"""SQL that tells whether a row holds the record of its micrograph, with the fields that it has
here."""


class Journal:
    """The index, for one thread at a time.

    `foreign` names a STAR file of the folder that has no record: another program's, or an older
    version's.
    """

    def __init__(self, out: Path, index: Path) -> None:
        self._out, self._index = out, index
        self.foreign: Path | None = None
        self._failures: dict[str, Failure] = {}  # of an index that is removed, until there is another
        try:
            self._open()
        except sqlite3.DatabaseError:
            self._renew()

    def rebuild(self) -> None:
        """Make the index anew from the STAR files, with its failures. Raises OSError or
        sqlite3.Error; then the index is closed, and to be rebuilt before it is used.
        """
        self._failures |= {failure.stem: failure for failure in failures_of(self._index)}
        foreign = self.foreign
        self._renew()
        try:
            if foreign is None and self.foreign is not None:
                raise OSError(f"{self.foreign}: cannot be read")
            for failure in self._failures.values():
                self.put_failed(failure)
            self._failures = {}
        except BaseException:
            self.close()
            raise

    def _renew(self) -> None:
        self.close()
        remove_index(self._index)
        try:
            self._open()
        except BaseException:  # it would answer, but not from the STAR files
            self.close()
            raise

    def _open(self) -> None:
        # The folder's own lock keeps others out; SQLite's would fail where the file system has
        # none.
        where = f"{self._index.absolute().as_uri()}?nolock=1"
        self._db = sqlite3.connect(where, uri=True, check_same_thread=False, isolation_level=None)
        # WAL needs memory shared by all readers, which network file systems have not.
        self._db.execute("PRAGMA journal_mode = TRUNCATE")
        self._db.execute("PRAGMA synchronous = OFF")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (sound,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if version not in (0, _VERSION) or sound != "ok":
            raise sqlite3.DatabaseError(f"version {version}, {sound}")
        self._db.executescript(_SCHEMA)
        self.reconcile()

    def reconcile(self) -> None:
        """Bring the index up to date with the names of the STAR files. Raises sqlite3.Error."""
        with self._transaction():
            self._reconcile()

    def _reconcile(self) -> None:
        self._doubt_unsound()
        there = set(stems_in(self._out)) - {COORDS_SUFFIX}
        known = {stem for (stem,) in self._db.execute("SELECT stem FROM picked")}
        doubted = dict(self._db.execute("SELECT stem, rowid FROM picked WHERE settings IS NULL"))
        self._db.executemany("DELETE FROM picked WHERE stem = ?", [(stem,) for stem in known - there])
        for stem in sorted(there - (known - doubted.keys())):
            path = star_path(self._out, PurePosixPath(stem))
            try:
                found = json.loads(read_record(path))
                record = MicrographRecord(**found["record"])
                if record.stem != stem:  # a copy of another one's
                    continue
                self._put(Settings(**found["settings"]), record)
                if stem in doubted:  # it keeps its place in the order of picking
                    self._db.execute("UPDATE picked SET rowid = ? WHERE stem = ?", (doubted[stem], stem))
                    self._db.execute("DELETE FROM failed WHERE stem = ?", (stem,))
            except (OSError, *UNSOUND):
                self.foreign = path

    def _doubt_unsound(self) -> None:
        """Doubt rows that are none of ours, and forget failures that are not: one must not spoil
        all.
        """
        with contextlib.suppress(sqlite3.OperationalError):  # SQLite may have been built without JSON
            self._db.execute(f"UPDATE picked SET settings = NULL WHERE NOT ({_SOUND})")  # noqa: S608 - our own words
            self._db.execute("DELETE FROM failed WHERE NOT ifnull(json_valid(record), 0)")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # after some errors SQLite has done it by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(AttributeError):
            self._db.close()

    def put(self, settings: Settings, record: MicrographRecord) -> None:
        """Note a micrograph as picked. Raises sqlite3.Error."""
        with self._transaction():
            self._put(settings, record)
            self._db.execute("DELETE FROM failed WHERE stem = ?", (record.stem,))

    def _put(self, settings: Settings, record: MicrographRecord) -> None:
        text = settings.to_json()
        self._db.execute("INSERT OR IGNORE INTO settings (json) VALUES (?)", (text,))
        (key,) = self._db.execute("SELECT id FROM settings WHERE json = ?", (text,)).fetchone()
        row = (record.stem, key, record.name, record.size, record.mtime_ns, record.pixel_size_A)
        counts = (record.picks, record.detections, "\n".join(record.flags))
        values = (*row, *counts, json.dumps(dataclasses.asdict(record)))
        self._db.execute("INSERT OR REPLACE INTO picked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def correct(self, found: Iterable[tuple[Settings, MicrographRecord]]) -> None:
        """Note anew what is here and was picked otherwise since. Raises sqlite3.Error."""
        with self._transaction():
            for settings, record in found:
                known = self._db.execute("SELECT record FROM picked WHERE stem = ?", (record.stem,)).fetchone()
                if known not in (None, (json.dumps(dataclasses.asdict(record)),)):
                    self._put(settings, record)

    def drop(self, stem: str) -> None:
        """Forget the picks of a micrograph. Raises sqlite3.Error."""
        self._db.execute("DELETE FROM picked WHERE stem = ?", (stem,))

    def doubt(self, stems: Iterable[str]) -> None:
        """Note for good that STAR files are about to be written anew. Raises sqlite3.Error.

        Each that is not put after that is read again when the index is opened, whatever has
        happened to it.
        """
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._db.executemany("UPDATE picked SET settings = NULL WHERE stem = ?", [(stem,) for stem in stems])
        self._db.execute("PRAGMA synchronous = OFF")

    def is_doubted(self) -> bool:
        """Whether any micrograph that was to be written anew has not been put since."""
        return self._db.execute("SELECT 1 FROM picked WHERE settings IS NULL LIMIT 1").fetchone() is not None

    def put_failed(self, failure: Failure) -> None:
        """Note a failure, until the micrograph is picked. Raises sqlite3.Error."""
        row = (failure.stem, json.dumps(dataclasses.asdict(failure)))
        self._db.execute("INSERT OR REPLACE INTO failed VALUES (?, ?)", row)

    def forget_failures(self) -> None:
        """Begin anew: each micrograph that failed is tried again. Raises sqlite3.Error."""
        self._db.execute("DELETE FROM failed")

    def last_settings(self) -> Settings | None:
        """The settings of the micrograph picked last; None where none is."""
        found = self._db.execute(
            "SELECT json FROM settings JOIN picked ON settings.id = picked.settings ORDER BY picked.rowid DESC LIMIT 1"
        ).fetchone()
        return Settings(**json.loads(found[0])) if found else None

    def finished(self, settings: Settings) -> dict[str, PickedFrom]:
        """From what each micrograph was picked with `settings`, by stem."""
        given, masked = settings.pixel_size_A is not None, settings.masks is not None
        records = map(json.loads, self.records(settings) if masked else ())
        masks = {record["stem"]: record.get("mask_mtime_ns") for record in records}
        return {
            stem: PickedFrom(size, mtime_ns, None if given else pixel_size_A, masks.get(stem), name)
            for stem, name, size, mtime_ns, pixel_size_A in self._of(
                settings, "stem, name, size, mtime_ns, pixel_size_A"
            )
        }

    def rename(self, called: Iterable[tuple[str, str, str]]) -> None:
        """Note name and path of stems that are called otherwise now than in their STAR files."""
        with self._transaction():
            for stem, name, path in called:
                ((text,),) = self._db.execute("SELECT record FROM picked WHERE stem = ?", (stem,))
                record = json.dumps(json.loads(text) | {"name": name, "path": path})
                self._db.execute("UPDATE picked SET name = ?, record = ? WHERE stem = ?", (name, record, stem))

    def has(self, stem: str, settings: Settings) -> bool:
        """Whether a micrograph is picked with `settings`."""
        query = "SELECT 1 FROM picked JOIN settings ON settings.id = picked.settings WHERE stem = ? AND json = ?"
        return self._db.execute(query, (stem, settings.to_json())).fetchone() is not None

    def names(self, settings: Settings) -> Generator[tuple[str, str], None, None]:
        """Name and stem of each micrograph picked with `settings`, in the order of picking."""
        return (row for row in self._of(settings, "name, stem"))

    def records(self, settings: Settings, otherwise: bool = False) -> Generator[str, None, None]:
        """The JSON of each `MicrographRecord` picked with `settings`, or `otherwise`, in that
        order.
        """
        return (text for (text,) in self._of(settings, "record", otherwise=otherwise))

    def elsewhere(self, settings: Settings) -> list[MicrographRecord]:
        """The micrographs that are picked with `settings`, but for the threshold; in the order of
        picking.
        """
        rows = self._db.execute(
            "SELECT json, record FROM picked JOIN settings ON settings.id = picked.settings ORDER BY picked.rowid"
        )
        return [
            MicrographRecord(**json.loads(record))
            for text, record in rows
            if settings.is_rethresholded(Settings(**json.loads(text)))
        ]

    def failures(self) -> Generator[str, None, None]:
        """The JSON of each `Failure`, in the order of failing."""
        return (text for (text,) in self._db.execute("SELECT record FROM failed ORDER BY rowid"))

    def totals(self, settings: Settings) -> Totals:
        """Counts over all micrographs picked with `settings`."""
        ((count, picks, detections),) = self._of(settings, "count(*), total(picks), total(detections)")
        ((failed,),) = self._db.execute("SELECT count(*) FROM failed")
        flags: Counter[str] = Counter()
        for text, times in self._of(settings, "flags, count(*)", "GROUP BY flags"):
            flags.update(dict.fromkeys(text.split("\n") if text else (), times))
        return Totals(
            micrographs=count,
            failed=failed,
            picks=int(picks),
            detections=int(detections),
            flags=dict(flags.most_common()),
        )

    def _of(self, settings: Settings, columns: str, grouped: str = "", otherwise: bool = False) -> Iterator[Any]:
        return self._db.execute(
            f"SELECT {columns} FROM picked JOIN settings ON settings.id = picked.settings "  # noqa: S608 - our own words
            f"WHERE json {'<>' if otherwise else '='} ? {grouped or 'ORDER BY picked.rowid'}",
            (settings.to_json(),),
        )
