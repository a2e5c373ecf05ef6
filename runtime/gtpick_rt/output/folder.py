"""The output folder of a run: what it holds, what is added to it, and its lists."""

import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

from gtpick_rt.errors import OUT_OF_REACH, UsageError
from gtpick_rt.files.atomic import remove_empty, write_atomic
from gtpick_rt.files.shared import names_in
from gtpick_rt.output.commit import discard_picks
from gtpick_rt.output.conversion import Conversion, read_conversion
from gtpick_rt.output.holders import holder
from gtpick_rt.output.journal import Journal
from gtpick_rt.output.layout import (
    formats_path,
    index_path,
    list_path,
    lock_path,
    log_path,
    shards_folder,
    summary_path,
)
from gtpick_rt.output.lists import Hold, write_star_list, write_summary
from gtpick_rt.output.lock import FolderLock, lock_folder
from gtpick_rt.output.making import make_output, refuse_foreign, remove_temporaries, remove_traces
from gtpick_rt.output.pick_files import BlockedError, PickFiles, writing_to
from gtpick_rt.output.runlog import append_entry, end_shards
from gtpick_rt.output.summary import Outcome, Settings, Summary, Totals, read_summary
from gtpick_rt.records import Failure, MicrographRecord, PickedFrom

_SHARE_OF_TIME = 0.05
"""That goes into rewriting the lists, which grow with the number of micrographs."""
_LISTS_EVERY_S = 5.0
T = TypeVar("T")


class OutputFolder:
    """An output folder, held by this process alone from construction to `close`; a context manager.

    It goes on from what it holds: `previous` are the settings of the picks in it, None when it has
    none or when all is to be picked again by `force`.

    Raises UsageError: the folder cannot be made, is being written to by another process, or holds
    picks that have no record and that `force` does not allow to be replaced.
    """

    alone = True
    """Whether nobody else writes here."""
    shares = 1
    """Among how many runs the micrographs are divided."""

    def __init__(self, out: Path, force: bool = False) -> None:
        self.path, self._made = out, make_output(out)
        self._files: PickFiles | None = None
        self.previous: Settings | None = None
        self.earlier: Summary | None = None  # what the last run says of itself, whose picks are gone on with
        self.adaptation: Outcome | None = None  # of the network that picks, where this run was asked for it
        self._lists_due = time.monotonic() + _LISTS_EVERY_S
        self.hold = Hold(out)
        with ExitStack() as opened:
            opened.callback(remove_empty, self._made)
            self._lock = self._take_lock()
            opened.callback(self._release)
            if self.alone:
                remove_temporaries(self.path)
            self._journal = self._open_index()
            opened.callback(self._journal.close)
            if not force:
                refuse_foreign(self._journal.foreign)
                self.previous = self._find_previous()
                self.earlier = None if self.previous is None else read_summary(summary_path(out))
            self._opened = opened.pop_all()

    def _take_lock(self) -> FolderLock:
        return lock_folder(lock_path(self.path), lambda: names_in(shards_folder(self.path), "*.lock"))

    def _open_index(self) -> Journal:
        try:
            return Journal(self.path, self.index)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{self.index}: unusable ({error}); free space, or choose another --out") from error

    @property
    def index(self) -> Path:
        """The file of the index."""
        return index_path(self.path)

    @property
    def log_file(self) -> Path:
        """The file of the log."""
        return log_path(self.path)

    def holds(self, stem: str) -> bool:
        """Whether the micrograph with outputs of this name is to be picked by this run."""
        return True

    def _find_previous(self) -> Settings | None:
        return self._indexed(self._journal.last_settings)

    def agree(self, settings: Settings) -> Settings:
        """The settings to begin with, where others who pick into this folder may have begun."""
        return settings

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write; a folder into which nothing was written is not left behind."""
        self._opened.close()

    def _release(self) -> None:
        if self._files is None and (self._made or not list_path(self.path).exists()):
            remove_traces(self.path, bool(self._made))
        self._lock.release()

    @property
    def finished(self) -> Mapping[str, PickedFrom]:
        """From what each micrograph was picked that need not be picked again, by stem."""
        previous = self.previous
        return {} if previous is None else self._indexed(lambda: self._journal.finished(previous))

    def renew(self) -> None:
        """Pick all once more, with other settings; what is there stays until it is replaced."""
        self.previous = self.earlier = None

    def refuse_others(self, settings: Settings) -> None:
        """Raise UsageError where the folder has picks of other settings, unless by `force`."""
        if self.previous not in (None, settings):
            raise UsageError(self._refusal(self.previous, settings))

    def begin(self, settings: Settings, formats: Sequence[str] = ()) -> None:
        """Go on with `settings` and these formats. Raises as `refuse_others` and `writing` do."""
        self.refuse_others(settings)
        self._indexed(self._journal.forget_failures)
        self._take_up(settings)
        if formats:
            self.convert_to(self.conversion.with_formats(formats))

    def _refusal(self, previous: Settings, settings: Settings) -> str:
        return previous.refusal(self.path, settings)

    def go_on(self, threshold: float | None = None) -> Settings:
        """Go on with the picks that are here, at this threshold if one is given.

        Returns the settings. Raises UsageError when there are no picks or, without one, of two.
        """
        if self.previous is None:
            raise UsageError(f"{self.path}: holds no picks; name the output folder of a run of pick")
        settings, self.earlier = self.previous, None  # who rewrites picks says what is true of them now
        if threshold is None and self._indexed(lambda: self._journal.elsewhere(settings)):
            raise UsageError(f"{self.path}: gtpick-rt rethreshold was interrupted; run it again before this")
        self._take_up(settings if threshold is None else dataclasses.replace(settings, threshold=threshold))
        return self.files.settings

    def _take_up(self, settings: Settings) -> None:
        with self.writing():
            if self.alone:
                end_shards(shards_folder(self.path), self.log_file)
            self._files = PickFiles(self.path, settings, read_conversion(self.path), self._lock.is_held)

    @property
    def files(self) -> PickFiles:
        """Writes the files of each micrograph, from `begin` or `go_on` on."""
        assert self._files is not None, "begin() comes first"
        return self._files

    @property
    def holder(self) -> str:
        """What tells this run from all others that may write here; see `holders.holder`."""
        return holder(lock_path(self.path))

    def probe(self) -> None:
        """Find out whether files can be written. Raises as `writing` does."""
        path = lock_path(self.path).with_name("probe")
        with self.writing():
            write_atomic(path, bytes(1 << 16))
            path.unlink()

    @property
    def conversion(self) -> Conversion:
        """The other formats that the folder has."""
        return self.files.conversion

    def convert_to(self, conversion: Conversion) -> None:
        """Keep these other formats from now on. Raises as `writing` does."""
        with self.writing():
            write_atomic(formats_path(self.path), conversion.to_json().encode())
        self._files = dataclasses.replace(self.files, conversion=conversion)

    def records(self, otherwise: bool = False) -> Iterator[MicrographRecord]:
        """What is known of each micrograph that was picked so, or `otherwise`, in that order."""
        texts = self._indexed(lambda: list(self._journal.records(self.files.settings, otherwise)))
        return (MicrographRecord(**json.loads(text)) for text in texts)

    def begin_rewriting(self) -> list[MicrographRecord]:
        """Bring the micrographs that are to be rewritten; their other formats become due. An
        interruption loses none: their STAR files tell what they are. Raises as `writing` does.
        """
        todo = self._indexed(lambda: self._journal.elsewhere(self.files.settings))
        if todo:
            self.convert_to(self.conversion.with_due(self.conversion.per_micrograph))
            with self.writing():
                self._indexed(lambda: self._journal.doubt(record.stem for record in todo))
        return todo

    @property
    def is_rewritten(self) -> bool:
        """Whether all that was to be rewritten has been."""
        return not self._indexed(self._journal.is_doubted)

    def note(self, record: MicrographRecord) -> None:
        """Take a micrograph that was written into the index. Raises as `writing` does."""
        with self.writing():
            self._indexed(lambda: self._journal.put(self.files.settings, record))

    def rename(self, called: Sequence[tuple[str, str, str]]) -> None:
        """List micrographs, given by stem, by these names and paths. Raises BlockedError."""
        self._indexed(lambda: self._journal.rename(called))

    def fail(self, failure: Failure) -> None:
        """Note a failure, and remove picks of an earlier run; those of the same settings stay while
        the file is out of reach. Raises as `writing` does.
        """
        known = self._indexed(lambda: self._journal.has(failure.stem, self.files.settings))
        if not (known and failure.kind in OUT_OF_REACH):
            self.discard(failure.stem)
        self.report(failure)

    def discard(self, stem: str) -> None:
        """Remove the picks of a micrograph. Raises as `writing` does."""
        with self.writing():
            discard_picks(self.path, PurePosixPath(stem))
            self._indexed(lambda: self._journal.drop(stem))

    def report(self, failure: Failure) -> None:
        """Note what went wrong with a micrograph, whose picks stay. Raises as `writing` does."""
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
                raise BlockedError(f"{self.index}: cannot be used ({error})") from error

    def log(self, **entry: object) -> None:
        """Append a line to the log, as far as that can be done."""
        append_entry(self.log_file, entry)

    @property
    def totals(self) -> Totals:
        """Counts over all that the folder holds."""
        return self._indexed(lambda: self._journal.totals(self.files.settings))

    @property
    def lists_due(self) -> bool:
        """Whether it is time to write the lists again."""
        return time.monotonic() >= self._lists_due

    def write_lists(self, summary: Summary) -> None:
        """Write `autopick.star` and `summary.json`, each whatever becomes of the other. Raises as
        `writing` does.
        """
        started = time.monotonic()
        try:
            self._write_lists(summary)
        finally:
            self._lists_due = time.monotonic() + max(_LISTS_EVERY_S, (time.monotonic() - started) / _SHARE_OF_TIME)

    def _write_lists(self, summary: Summary) -> None:
        journal, settings, summary = self._journal, self.files.settings, summary.after(self.earlier)
        try:
            if self.hold.is_over:
                with self.writing(), closing(journal.names(settings)) as names:
                    write_star_list(self.path, names)
        finally:
            with self.writing(), closing(journal.records(settings)) as records, closing(journal.failures()) as failed:
                write_summary(self.path, summary, records, failed)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write files here; raises BlockedError, UnwritableError, or UsageError without it."""
        try:
            with writing_to(self.path, self._lock.is_held):
                yield
        except sqlite3.Error as error:
            raise BlockedError(f"{self.index}: cannot be used ({error})") from error
