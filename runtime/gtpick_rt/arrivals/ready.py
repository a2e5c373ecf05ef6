"""Whether a file is whole: what is seen of it, and the patience with one that is not.

A file is ready when its header is sound and promises no more bytes than are there, when neither the
beginning of its pixels nor the middle nor the end is blank, and when it has stayed as it is for a
while. Each of the three catches writers that the others miss: one that stalls, one that claims the
whole size first, one that is nearly done.
"""

import errno
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import WAITING, Timing
from gtpick_rt.arrivals.stamp import Stamp, stamp_of
from gtpick_rt.errors import FormatError, IncompleteError, MicrographError, UnreadableError
from gtpick_rt.reading.info import TIFF_SUFFIXES, UNFINISHED, regular_size, suffix_of, translated_errors
from gtpick_rt.reading.micrographs import probe
from gtpick_rt.reading.mrc import HEADER_BYTES, parse_header
from gtpick_rt.records import Failure

PROBE_BYTES = 1 << 16
_ZEROS_S, _ZEROS_SETTLED = 10.0, 5
"""A part of only zeros is taken for a margin, or a block without data, when it has stayed so for so
long, and so many times the time to settle."""
_PEEK_S, _GROWING_S = 0.5, 10.0
"""A file that has stayed as it is for so long, or grown for so long, is looked into, to tell
what it lacks."""
_UNCOMPRESSED_MRC = (".mrc", ".mrcs")
_PARTS = ("beginning", "middle", "end")
_MISSING = (FileNotFoundError, NotADirectoryError)


def flaw_of(path: Path) -> MicrographError | None:
    """What keeps a file from being picked as it is now.

    IncompleteError or UnreadableError; None where nothing does.

    An image that will never be readable has no flaw: whoever reads it will say what is wrong.
    """
    try:
        with translated_errors(path):
            return _flaw_inside(path)
    except (IncompleteError, UnreadableError) as error:
        return error
    except FormatError:
        return None


def _flaw_inside(path: Path) -> IncompleteError | None:
    if _has_blank_header(path):
        return IncompleteError(f"{path}: its header is blank: still being written, or damaged: copy it again")
    try:
        probe(path)
    except FormatError as error:
        # The tags of a TIFF are in several pieces, of which some may be still to come.
        if suffix_of(path.name) in TIFF_SUFFIXES and regular_size(path) < PROBE_BYTES:
            return IncompleteError(f"{error}; or {UNFINISHED}")
        return None
    parts, reserved = _blank_parts(path)
    if not parts:
        return None
    zeros = f"{path}: there are only zeros at the {' and the '.join(parts)} of its pixels: still being written, or"
    if len(parts) == len(_PARTS):
        return IncompleteError(f"{zeros} damaged; an image that is meant to be so is picked without --watch")
    return BlankError(f"{zeros} a margin: it is picked when it has stayed so for a while", reserved)


def _has_blank_header(path: Path) -> bool:
    if not path.is_file():
        return False  # and opening a pipe would wait for its writer
    with path.open("rb") as file:
        return not file.read(HEADER_BYTES).strip(b"\0")


def _blank_parts(path: Path) -> tuple[list[str], bool]:
    """Which of three samples of the pixels have only zeros; and whether one is but space that was
    reserved.
    """
    blank, reserved = [], False
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = 0
        if suffix_of(path.name) in _UNCOMPRESSED_MRC:
            start = parse_header(path, file.read(HEADER_BYTES)).data_offset
        last = max(start, size - PROBE_BYTES)
        for part, offset in zip(_PARTS, (start, (start + last) // 2, last), strict=True):
            file.seek(offset)
            if not file.read(PROBE_BYTES).strip(b"\0"):
                blank.append(part)
                reserved |= _is_hole(file.fileno(), offset, size)
    return blank, reserved


def _is_hole(descriptor: int, offset: int, size: int) -> bool:
    """Whether nothing was ever written there, as far as the file system tells."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= min(offset + PROBE_BYTES, size)
    except OSError as error:
        return error.errno == errno.ENXIO  # there are no data from there to the end


class BlankError(IncompleteError):
    """A part of the pixels has only zeros; `reserved` where the file system says that nothing was
    ever written there.
    """

    def __init__(self, message: str, reserved: bool) -> None:
        super().__init__(message)
        self.reserved = reserved

    def patience_s(self, settle_s: float, timing: Timing) -> float:
        """After which zeros that stay are meant to be there."""
        return timing.max_wait_s if self.reserved else min(timing.max_wait_s, max(_ZEROS_S, _ZEROS_SETTLED * settle_s))


class State(Enum):
    """What a look at a file has found."""

    WAITING = auto()
    READY = auto()
    GONE = auto()


@dataclass(slots=True)
class Candidate:
    """A file that is waited for until it is ready. Times are in seconds of our own clock."""

    job: Job
    settle_s: float
    expected: bool
    """It was named, so that it is waited for also while it is not there."""
    since: float
    """When it was first seen as it is now."""
    stamp: Stamp | None = None
    reported: bool = False
    """It has been given up for the time being: nothing needs to wait for it."""
    _told: str = ""
    """What has been said of it: that it is not there, or not whole."""
    _first: float = 0.0
    """When it was first seen."""
    _peeked: bool = False
    """It has been looked into as it is now, before it has settled."""
    _due: float = 0.0
    """When to look into it, if it has not changed until then."""
    _pause_s: float = 0.0
    _flaw: MicrographError | None = None

    def __post_init__(self) -> None:
        self._first = self.since

    @property
    def is_stuck(self) -> bool:
        """Whether it will not be ready unless somebody does something."""
        return self._flaw is not None and not (isinstance(self._flaw, BlankError) and not self._flaw.reserved)

    @property
    def lack(self) -> str:
        """What keeps it from being picked, with its name; empty where nothing is known to."""
        return str(self._flaw or "")

    def look(self, now: float, timing: Timing) -> State:
        """Look at the file, and into it when it has settled or its turn has come again."""
        try:
            stamp = stamp_of(self.job.path)
        except OSError as error:
            if isinstance(error, _MISSING) and not self.expected and not os.path.lexists(self.job.path):
                return State.GONE
            self._flaw = _unreadable(self.job.path, error)
        else:
            if not stamp.is_still(self.stamp):
                self.stamp, self.since, self._flaw = stamp, now, None
                self._due, self._pause_s = now + self.settle_s, 0.0
                self._peeked = False
            unsettled = now < self._due and not self._peeked
            if unsettled and (now - self.since >= _PEEK_S or now - self._first >= _GROWING_S):
                self._flaw, self._peeked = flaw_of(self.job.path), True
            if now >= self._due:
                self._flaw = flaw_of(self.job.path)
                if self._flaw is None or now >= self._meant_from(timing):
                    return State.READY
        if now >= self._due:
            self._pause_s = min(max(2 * self._pause_s, self.settle_s, timing.poll_s), timing.longest_s)
            self._due = min(now + self._pause_s, self._meant_from(timing))
        return State.WAITING

    def _meant_from(self, timing: Timing) -> float:
        """When what it looks like will be taken for meant; never for what is plainly incomplete."""
        if not isinstance(self._flaw, BlankError):
            return math.inf
        return self.since + self._flaw.patience_s(self.settle_s, timing)

    def next_look(self, now: float, timing: Timing) -> float:
        """When to look again.

        A file that grows is noticed soon, one that has been given up can wait longer.
        """
        soon_s = timing.poll_s if self._peeked else min(timing.poll_s, _PEEK_S)
        return self._due if self.reported else min(self._due, now + soon_s)

    def report(self, now: float, timing: Timing) -> Failure | None:
        """What is to be said about a file that is not ready: that it is waited for at once, that it
        has failed after a wait.
        """
        if self.reported or self._flaw is None:
            return None
        if now - self.since >= _patience_s(self._flaw, timing):
            return self.give_up()
        if isinstance(self._flaw.__cause__, _MISSING):
            what = f"{self.job.path}: is not there"
        else:
            what = f"{self._flaw}{self._last_written()}"
        told, self._told = self._told, type(self._flaw).__name__
        return (
            None
            if told == self._told
            else self._said(WAITING, f"{what}; it is waited for, for {timing.max_wait_s:g} s")
        )

    def give_up(self) -> Failure | None:
        """That it has failed, unless that was said before; it is watched still."""
        if self.reported or self._flaw is None:
            return None
        self.reported = True
        return self._said(type(self._flaw).__name__, str(self._flaw))

    def _last_written(self) -> str:
        """When, by the file's own time: it may have lain there before anybody looked."""
        if self.stamp is None:
            return ""
        return time.strftime("; last written %Y-%m-%d %H:%M:%S", time.localtime(self.stamp.mtime_ns / 1e9))

    def _said(self, kind: str, message: str) -> Failure:
        return Failure(stem=str(self.job.stem), path=str(self.job.path), kind=kind, message=message)


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    flaw = UnreadableError(f"{path}: cannot be read: {error.strerror}; it is looked for again from time to time")
    flaw.__cause__ = error
    return flaw


def _patience_s(flaw: MicrographError, timing: Timing) -> float:
    """Someone has to do something about a forbidden file, and had better know at once."""
    forbidden = isinstance(flaw, UnreadableError) and not isinstance(flaw.__cause__, _MISSING)
    return 0.0 if forbidden else timing.max_wait_s


def nothing_yet(inputs: Sequence[str], known: int, excluded: int) -> Failure:
    """The notice that there is nothing to do, where `known` files have come and `excluded` were
    left out by their names.
    """
    places = ", ".join("standard input" if text == "-" else text for text in inputs)
    out = f" ({excluded} left out by their names, see --exclude)" if excluded else ""
    more = f"nothing new in {places}{out}: more micrographs are waited for"
    message = more if known else f"no micrograph in {places} yet{out}: the first is waited for"
    return Failure(stem=places, path=places, kind=WAITING, message=message)
