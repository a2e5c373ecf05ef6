"""Where the watcher finds new names: folders and patterns, lists that grow, single files, lines of
text.
"""

import codecs
import os
import queue
import sys
import threading
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from gtpick_rt.arrivals.folders import Folder, Names, Pattern, is_pattern
from gtpick_rt.arrivals.jobs import (
    Job,
    failure_of,
    is_list,
    job_below,
    job_listed,
    job_named,
    project_name,
    read_list,
)
from gtpick_rt.arrivals.source import WAITING, Timing
from gtpick_rt.arrivals.stamp import Stamp, stamp_if_there, stamp_of
from gtpick_rt.arrivals.troubles import Troubles
from gtpick_rt.errors import UsageError
from gtpick_rt.reading.info import suffix_of
from gtpick_rt.records import Failure

if TYPE_CHECKING:
    from gtpick_rt.formats.listed import ListedMicrograph

_CHANGING_S = 10.0
"""A list that has changed again and again for so long is read as it is."""


class WatchedInput(Protocol):
    """One input of the watcher."""

    settle_s: float
    """How long its files must stay as they are."""
    expects: bool
    """Whether a file that is not there is waited for: it was named, not merely found."""
    ended: bool
    """Whether nothing more will come of it, not even a file that changes."""

    def new(self, known: Container[str], now: float) -> Iterator[str | Failure]:
        """The paths that have come and are not `known`, and what is to be reported of the input
        itself.
        """
        ...

    def job(self, path: str) -> Job:
        """The job of a path that it has given. Raises UsageError when no file has such a name."""
        ...

    def left(self) -> Iterator[Failure]:
        """What is to be reported of the input at the end of an idle time, and was not yet."""
        ...


def watched_input(text: str, recursive: bool, names: Names, timing: Timing) -> WatchedInput:
    """Tell what kind of input `text` is, as `find_jobs` does; "-" is stdin, and what is not there
    yet may come.
    """
    path = Path(text)
    if text == "-":
        return PathStream(sys.stdin.buffer)
    if is_list(path) and not path.is_dir():
        return WatchedList(path, timing)
    if not os.path.lexists(path) and is_pattern(text):
        return WatchedFolder(Pattern(path, names), timing)
    if path.is_file() or suffix_of(text):
        return WatchedFile(path, timing)
    return WatchedFolder(Folder(path, recursive, names), timing)


class WatchedFolder:
    """A folder, or a pattern in one."""

    expects = ended = False

    def __init__(self, folder: Folder | Pattern, timing: Timing) -> None:
        self.folder, self._timing, self.settle_s = folder, timing, timing.settle_s
        self._name = project_name(folder.root)
        self._troubles = Troubles(timing)
        self._resting: dict[str, tuple[float, float]] = {}

    def new(self, known: Container[str], now: float) -> Iterator[str | Failure]:
        """What is new in it.

        A folder that cannot be listed is left alone for ever longer pauses.
        """
        try:
            self.folder.root.stat()
        except OSError as error:
            yield from self._troubles.tell([_absent(str(self.folder.root), error)], now)
            return
        resting = {folder for folder, (until, _) in self._resting.items() if now < until}
        paths, failures = self.folder.search(known, resting)
        yield from paths
        for failure in failures:
            _, pause_s = self._resting.get(failure.path, (now, self._timing.poll_s))
            self._resting[failure.path] = (now + pause_s, min(2 * pause_s, self._timing.longest_s))
        yield from self._troubles.tell(failures, now, resting)

    def job(self, path: str) -> Job:
        """The job of one of its files."""
        return job_below(self._name, path, self.folder.relative(path))

    def left(self) -> Iterator[Failure]:
        """The folders that still cannot be listed."""
        return self._troubles.left()


class WatchedList:
    """A micrographs STAR file or cryoSPARC's exposures, read again whenever it has changed and
    settled, or goes on changing.
    """

    expects, ended = True, False

    def __init__(self, path: Path, timing: Timing) -> None:
        self._path, self._timing, self.settle_s = path, timing, timing.settle_s
        self._jobs: dict[str, Job] = {}
        self._names: set[str] = set()
        self._stamp: Stamp | None = None
        self._since = self._unread_since = 0.0
        self._last: list[ListedMicrograph] = []  # the last row, when it was read while it changed
        self._read = self._peeked = False
        self._flaw, self._told, self._troubles = "", set[str](), Troubles(timing)

    @property
    def is_settling(self) -> bool:
        """Whether it is there, and will be read soon."""
        return self._stamp is not None and not (self._read or self._flaw)

    @property
    def is_unread(self) -> bool:
        """Whether it is there, and will be read soon for the first time."""
        return self.is_settling and not self._names

    def new(self, known: Container[str], now: float) -> Iterator[str | Failure]:
        """What it lists since it was read last."""
        try:
            stamp = stamp_of(self._path)
        except OSError as error:
            yield from self._troubles.tell([_absent(str(self._path), error)], now)
            return
        yield from self._troubles.tell([], now)
        if not stamp.is_still(self._stamp):
            self._unread_since = now if self._stamp is None or self._read else self._unread_since
            self._stamp, self._since, self._read, self._peeked = stamp, now, False, False
        elif not self._read and not self._peeked:
            self._peeked = True
            self._rows_now()
            yield from self._tell_flaw()
        if not self._read and now - self._since >= self.settle_s:
            yield from self._new_of(self._rows_now())
            self._read = not self._flaw  # a file system may have failed for a moment
            yield from self._tell_flaw()
        elif not self._read and now - self._unread_since >= max(_CHANGING_S, self.settle_s):
            yield from self._new_while_changing(now)
        if self._flaw and now - self._since >= self._timing.max_wait_s:
            yield from self.left()

    def left(self) -> Iterator[Failure]:
        """That it cannot be read as it is."""
        yield from self._troubles.left()
        if self._flaw:
            yield from self._tell("failed", failure_of(str(self._path), self._flaw))

    def _tell_flaw(self) -> Iterator[Failure]:
        if self._flaw:
            message = f"{self._flaw}; it is waited for, for {self._timing.max_wait_s:g} s"
            yield from self._tell("flaw", failure_of(str(self._path), message, WAITING))

    def _rows_now(self) -> "list[ListedMicrograph]":
        """The rows that it has now; none where it is not whole."""
        self._flaw = ""
        try:
            return read_list(self._path)
        except UsageError as error:
            self._flaw = str(error)
            return []

    def _new_while_changing(self, now: float) -> Iterator[str | Failure]:
        """What it lists, if it has stayed so while it was read; a last row that was not the last
        before may be half written.
        """
        rows = self._rows_now()
        stamp = stamp_if_there(self._path)
        if stamp is None or not stamp.is_still(self._stamp):
            self._flaw = ""
            return
        is_last_whole, self._last, self._unread_since = rows[-1:] == self._last, rows[-1:], now
        yield from self._new_of(rows if is_last_whole else rows[:-1])
        yield from self._tell_flaw()

    def _new_of(self, rows: "Sequence[ListedMicrograph]") -> Iterator[str | Failure]:
        for listed in rows:
            if listed.name not in self._names:
                self._names.add(listed.name)
                try:
                    job = job_listed(self._path, listed)
                except UsageError as error:
                    yield failure_of(listed.name, str(error))
                else:
                    self._jobs[str(job.path)] = job
                    yield str(job.path)

    def _tell(self, what: str, failure: Failure) -> Iterator[Failure]:
        if what not in self._told:
            self._told.add(what)
            yield failure

    def job(self, path: str) -> Job:
        """The job as the file lists it."""
        return self._jobs[path]


class WatchedFile:
    """A file that is named; it may come later."""

    expects, ended = True, False

    def __init__(self, path: Path, timing: Timing) -> None:
        self._path, self.settle_s = str(path), timing.settle_s

    def new(self, known: Container[str], now: float) -> Iterator[str | Failure]:
        """The file itself, once."""
        if self._path not in known:
            yield self._path

    def left(self) -> Iterator[Failure]:
        """Nothing."""
        return iter(())

    def job(self, path: str) -> Job:
        """Its job."""
        return job_named(Path(path))


class PathStream:
    """Paths, one a line, of files that whoever sends them knows to be whole."""

    expects, settle_s = True, 0.0

    def __init__(self, stream: BinaryIO) -> None:
        self._lines: queue.SimpleQueue[str | Failure | None] = queue.SimpleQueue()
        self.ended = False
        threading.Thread(target=self._receive, args=(stream,), name="gtpick-stdin", daemon=True).start()

    def _receive(self, stream: BinaryIO) -> None:
        try:
            for line in stream:
                self._lines.put(os.fsdecode(line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")))
        except (OSError, ValueError) as error:  # the terminal is gone, or it is closed
            reason = f"standard input cannot be read any more ({error}); what was named before is picked"
            self._lines.put(failure_of("-", reason, "UnreadableError"))
        finally:
            self._lines.put(None)

    def new(self, known: Container[str], now: float) -> Iterator[str | Failure]:
        """The paths that were sent since."""
        while not self._lines.empty():
            line = self._lines.get()
            if line is None:
                self.ended = True
            elif isinstance(line, Failure):
                yield line
            elif line:
                yield str(Path(line))

    def job(self, path: str) -> Job:
        """The job of a path."""
        return job_named(Path(path))

    def left(self) -> Iterator[Failure]:
        """Nothing."""
        return iter(())


def _absent(path: str, error: OSError) -> Failure:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    kind = WAITING if missing else "UnreadableError"
    message = f"{path}: cannot be looked at: {error.strerror}"
    return Failure(stem=Path(path).name or path, path=path, kind=kind, message=message)
