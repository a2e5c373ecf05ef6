"""The output folder of a run: what it holds already, what is added to it, and the lists that are kept current."""

import contextlib
import dataclasses
import errno
import json
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

from gtpick_rt.commit import commit_picks, discard_picks, load_detections, make_folder, sweep, write_atomic, write_star
from gtpick_rt.errors import UnwritableError, UsageError
from gtpick_rt.formats.star import autopick_star
from gtpick_rt.formats.writing import SINGLE, Conversion, Finished, read_conversion
from gtpick_rt.inputs import project_name
from gtpick_rt.journal import Journal, remove_index
from gtpick_rt.layout import (
    STATE_FOLDER,
    converted_path,
    formats_path,
    index_path,
    list_path,
    lock_path,
    log_path,
    overlay_path,
    preview_path,
    star_path,
    summary_path,
)
from gtpick_rt.lock import lock_folder
from gtpick_rt.reading.info import fault_of_name
from gtpick_rt.summary import Failure, MicrographRecord, Settings, Summary, Totals
from gtpick_rt.types import Picks

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every later micrograph would meet too, until someone frees space."""
_SHARE_OF_TIME = 0.05
"""That goes into rewriting the lists, which grow with the number of micrographs."""
_LISTS_EVERY_S = 5.0
T = TypeVar("T")


class BlockedError(UsageError):
    """Nothing can be written to the output folder until someone frees space or mends the disk."""


class OutputFolder:
    """An output folder, held by this process alone from construction to `close`; a context manager.

    It goes on from what it holds: `previous` are the settings of the picks in it, None when it has none or when all is
    to be picked again by `force`.

    Raises UsageError: the folder cannot be made, is being written to by another process, or holds picks that have no
    record and that `force` does not allow to be replaced.
    """

    def __init__(self, out: Path, force: bool = False) -> None:
        self.path, self._force = out, force
        self._made = _make(out)
        self._settings: Settings | None = None
        self.conversion = Conversion()
        self._lists_due = time.monotonic() + _LISTS_EVERY_S
        self._lock = lock_folder(lock_path(out))
        try:
            sweep(out)
            self._journal = _opened(out)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._refuse_foreign()
            self.previous = None if force else self._indexed(self._journal.last_settings)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write; a folder into which nothing was written is not left behind."""
        self._journal.close()
        if self._settings is None and not list_path(self.path).exists():
            _remove_traces(self.path, self._made)
        self._lock.release()

    def _refuse_foreign(self) -> None:
        foreign = self._journal.foreign
        if foreign is not None and not self._force:
            raise UsageError(
                f"{foreign}: picks of another program or version lie where these would go; "
                "choose another --out, or --force to replace them"
            )

    @property
    def finished(self) -> Mapping[str, tuple[int, int]]:
        """Size in bytes and time of change in ns of each micrograph that need not be picked again, by stem."""
        previous = self.previous
        return {} if previous is None else self._indexed(lambda: self._journal.finished(previous))

    def begin(self, settings: Settings, formats: Sequence[str] = ()) -> None:
        """Go on with `settings`, and with these other formats too.

        Raises UsageError when the folder holds picks of other settings, unless by `force`; and as `commit` does.
        """
        if self.previous not in (None, settings):
            raise UsageError(
                f"{self.path} holds picks made otherwise ({'; '.join(self.previous.differences(settings))}); "
                "choose another output folder, or --force to pick all of them again"
            )
        self._indexed(self._journal.forget_failures)
        self._take_up(settings)
        if formats:
            self.convert_to(self.conversion.with_formats(formats))

    def go_on(self, threshold: float | None = None) -> Settings:
        """Go on with the picks that are here, at another threshold if one is given; returns the settings.

        Raises UsageError when there are none.
        """
        if self.previous is None:
            raise UsageError(f"{self.path}: holds no picks; name the output folder of a run of pick")
        settings = self.previous
        self._take_up(settings if threshold is None else dataclasses.replace(settings, threshold=threshold))
        return self._in_force

    def _take_up(self, settings: Settings) -> None:
        with self.writing():
            self.conversion = read_conversion(self.path)
        self._settings = settings

    def convert_to(self, conversion: Conversion) -> None:
        """Keep these other formats from now on. Raises as `commit` does."""
        with self.writing():
            write_atomic(formats_path(self.path), conversion.to_json().encode())
        self.conversion = conversion

    def records(self) -> Iterator[MicrographRecord]:
        """What is known of each micrograph that was picked, in the order of picking."""
        texts = self._indexed(lambda: list(self._journal.records(self._in_force)))
        return (MicrographRecord(**json.loads(text)) for text in texts)

    def begin_rewriting(self) -> list[MicrographRecord]:
        """Bring the micrographs that `rewrite` is to be called for after `go_on`; their other formats become due.

        An interruption loses none, for their STAR files tell what they are. Raises as `commit` does.
        """
        todo = self._indexed(lambda: self._journal.elsewhere(self._in_force))
        if todo:
            self.convert_to(self.conversion.with_due(self.conversion.single))
            with self.writing():
                self._indexed(lambda: self._journal.doubt(record.stem for record in todo))
        return todo

    @property
    def _in_force(self) -> Settings:
        if self._settings is None:
            raise RuntimeError("begin() comes first")
        return self._settings

    def draw(self, stem: PurePosixPath, picture: bytes | None) -> None:
        """Replace the picture of a micrograph. Raises BlockedError or UnwritableError."""
        path = overlay_path(self.path, stem)
        with self.writing():
            path.unlink(missing_ok=True)  # one of an earlier run would show other picks
            if picture is not None:
                write_atomic(path, picture)

    def show(self, stem: PurePosixPath, preview: bytes) -> None:
        """Replace the preview of a micrograph. Raises BlockedError or UnwritableError."""
        with self.writing():
            write_atomic(preview_path(self.path, stem), preview)

    def commit(self, record: MicrographRecord, detections: Picks) -> None:
        """Write what was found on a micrograph; its STAR file, the mark that it is done, last.

        Raises BlockedError, UnwritableError, or UsageError when the folder is gone.
        """
        settings = self._in_force
        self.convert(Finished(record, settings, detections), self.conversion.single)
        with self.writing():
            commit_picks(self.path, PurePosixPath(record.stem), detections, settings.threshold, self._line(record))
        self.note(record)

    def load(self, record: MicrographRecord) -> Finished:
        """Read what was found on a micrograph back, at the threshold in force. Raises UsageError."""
        detections = load_detections(self.path, PurePosixPath(record.stem))
        return Finished.at(self._in_force, record, detections)

    def convert(self, done: Finished, formats: Sequence[str]) -> None:
        """Write these files of a micrograph in other formats. Raises as `commit` does; any thread may call it."""
        with self.writing():
            for name in formats:
                path = converted_path(self.path, name, PurePosixPath(done.record.stem))
                write_atomic(path, SINGLE[name](done, self.conversion).encode())

    def rewrite(self, done: Finished) -> bool:
        """Write the STAR file of a micrograph anew, for detections that are kept.

        An overlay, which would show other picks, is removed; tells whether there was one. Raises as `commit` does; any
        thread may call it, and `note` is to follow, and `convert` at the end.
        """
        stem = PurePosixPath(done.record.stem)
        overlaid = overlay_path(self.path, stem).exists()
        self.draw(stem, None)
        with self.writing():
            write_star(self.path, stem, done.detections, self._in_force.threshold, self._line(done.record))
        return overlaid

    def note(self, record: MicrographRecord) -> None:
        """Take a micrograph that was written into the index. Raises as `commit` does."""
        with self.writing():
            self._indexed(lambda: self._journal.put(self._in_force, record))

    def _line(self, record: MicrographRecord) -> str:
        return json.dumps({"settings": dataclasses.asdict(self._in_force), "record": dataclasses.asdict(record)})

    def fail(self, failure: Failure) -> None:
        """Note that a micrograph failed, and remove picks that an earlier run made. Raises as `commit` does."""
        with self.writing():
            discard_picks(self.path, PurePosixPath(failure.stem))
            self._indexed(lambda: self._journal.drop(failure.stem))
        self.report(failure)

    def report(self, failure: Failure) -> None:
        """Note something that went wrong before a micrograph could be read. Raises as `commit` does."""
        with self.writing():
            self._indexed(lambda: self._journal.put_failed(failure))

    def _indexed(self, call: Callable[[], T]) -> T:
        """Use the index, or a new one: it may have been damaged since it was opened."""
        try:
            return call()
        except sqlite3.Error:
            try:
                self._journal.rebuild()
                return call()
            except (OSError, sqlite3.Error) as error:
                raise self._no_index(error) from error

    def _no_index(self, error: Exception) -> BlockedError:
        return BlockedError(f"{index_path(self.path)}: cannot be used ({error})")

    def log(self, **entry: object) -> None:
        """Append a line to the log, as far as that can be done."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **entry}) + "\n"
        with contextlib.suppress(OSError), log_path(self.path).open("a") as file:
            file.write(line)

    @property
    def totals(self) -> Totals:
        """Counts over all that the folder holds."""
        return self._indexed(lambda: self._journal.totals(self._in_force))

    @property
    def lists_due(self) -> bool:
        """Whether it is time to write the lists again."""
        return time.monotonic() >= self._lists_due

    def write_lists(self, summary: Summary) -> None:
        """Write `autopick.star` and `summary.json`, each whatever becomes of the other. Raises as `commit` does."""
        started = time.monotonic()
        try:
            with self.writing(), closing(self._rows()) as rows:
                write_atomic(list_path(self.path), map(str.encode, autopick_star(rows)))
        finally:
            journal, settings = self._journal, self._in_force
            with self.writing(), closing(journal.records(settings)) as records, closing(journal.failures()) as failed:
                write_atomic(summary_path(self.path), map(str.encode, summary.to_json(records, failed)))
            now = time.monotonic()
            self._lists_due = now + max(_LISTS_EVERY_S, (now - started) / _SHARE_OF_TIME)

    def _rows(self) -> Generator[tuple[str, str], None, None]:
        """Paths are relative to the current folder where they lie below it, as RELION wants."""
        for name, stem in self._journal.names(self._in_force):
            yield name, project_name(star_path(self.path, PurePosixPath(stem)))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Where files are written here: raises BlockedError, UnwritableError, or UsageError when the folder is gone."""
        try:
            if not self._lock.is_held():  # what is written now would be lost
                raise UsageError(f"{self.path}: the output folder was removed while picking; run again")
            yield
        except OSError as error:
            if error.errno in DISK_FULL:
                raise BlockedError(f"{self.path}: disk full or read-only ({error.strerror})") from error
            raise UnwritableError(f"{error.filename}: cannot be written ({error.strerror})") from error
        except sqlite3.Error as error:
            raise self._no_index(error) from error


def _make(out: Path) -> list[Path]:
    """Make the folder; returns what had to be made."""
    try:
        fault = fault_of_name(out.absolute())
        if fault:
            raise UsageError(f"{str(out.absolute())!r}: the name of the output folder {fault}; choose another --out")
        state = out / STATE_FOLDER
        missing = [each for each in (state, *state.parents) if not each.exists()]
        make_folder(state)
    except OSError as error:
        raise UsageError(f"{out}: the output folder cannot be made ({error.strerror}); choose another --out") from error
    return missing


def _opened(out: Path) -> Journal:
    try:
        return Journal(out)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(
            f"{index_path(out)}: cannot be written ({error}); free space, or choose another --out"
        ) from error


def _remove_traces(out: Path, made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        remove_index(out)
        lock_path(out).unlink()
        for folder in made:
            folder.rmdir()
