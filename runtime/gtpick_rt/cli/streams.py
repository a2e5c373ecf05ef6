"""Standard output and error as a service to whoever looks on: what cannot be shown is dropped, and
the work goes on.

A terminal may be gone, a disk full, a descriptor closed, or nobody reads; the locale may lack a
letter. Names of files are taken for UTF-8 whatever the locale says, for that is what lists hold.
"""

import codecs
import errno
import io
import locale
import os
import queue
import select
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gtpick_rt.records import printable

_ASCII = {"µ": "u", "μ": "u", "°": " deg", "×": "x", "…": "...", "–": "-", "→": "->"}
_HELD_BYTES = 1 << 16
"""What waits for a reader, at most; more is dropped."""
_PATIENCE_S = 2.0
"""At the end of a run, for a reader who takes nothing."""
_TICK_S = 0.02


class Stream(io.RawIOBase):
    """Writes to a descriptor; never fails, and after `never_wait` never waits.

    `problem` tells why something was dropped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.problem = descriptor, ""
        self._pending: _Pending | None = None
        self._taken = self._written = 0

    def writable(self) -> bool:
        """As of every stream that is written to."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether this is a terminal, and still there."""
        return os.isatty(self._descriptor)

    def place(self) -> tuple[int, int]:
        """What tells the file, pipe or terminal apart that this leads to."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def never_wait(self, pending: "_Pending") -> None:
        """From now on the thread that works `pending` off writes, which may wait as long as it
        must.
        """
        self._pending = pending

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Show `data`, or drop it."""
        data = bytes(data)
        if self._pending is None:
            self._show(data)
        elif self._taken - self._written + len(data) <= _HELD_BYTES:
            self._taken += len(data)
            self._pending.put((self, data))
        else:
            self.problem = self.problem or "nobody reads it"
        return len(data)

    def drain(self) -> None:
        """Wait for what is to be shown still, as long as somebody takes it."""
        before, since = -1, time.monotonic()
        while self._taken > self._written and time.monotonic() - since < _PATIENCE_S:
            if self._written != before:
                before, since = self._written, time.monotonic()
            time.sleep(_TICK_S)

    def write_pending(self, data: bytes) -> None:
        """Show what waited for it."""
        self._show(data)
        self._written += len(data)

    def _show(self, data: bytes) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # whoever started this shares a descriptor that does not wait
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError) as error:
            self.problem = self.problem or getattr(error, "strerror", None) or str(error)


_Pending = queue.SimpleQueue[tuple[Stream, bytes]]
"""What is to be written, in order; a signal handler may put something into it."""
_streams: dict[str, Stream] = {}
"""By the name that they have in `sys`."""


@contextmanager
def serving() -> Iterator[None]:
    """Let standard output and error be `Stream`s, until all of it is shown.

    Who has put something else in their place keeps it.
    """
    _open_descriptors()
    codecs.register_error("gtpick_rt", _replaced)
    encoding, before = _encoding(), {}
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):
            before[name] = getattr(sys, name)
            stream = _streams[name] = Stream(descriptor)
            lines = name == "stderr" or stream.isatty()
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(stream), encoding, "gtpick_rt", line_buffering=lines))
    try:
        yield
    finally:
        _end()
        for name, stream_before in before.items():
            setattr(sys, name, stream_before)
        _streams.clear()


def _end() -> None:
    if "stdout" in _streams:
        sys.stdout.flush()
        why = _streams["stdout"].problem
        if why not in ("", os.strerror(errno.EPIPE)):  # who closes a pipe has seen enough
            sys.stderr.write(f"warning: standard output: not all could be shown ({why})\n")
    if "stderr" in _streams:
        sys.stderr.flush()
    for stream in _streams.values():
        stream.drain()


_places: dict[tuple[int, int], _Pending] = {}
"""What waits for each place that output goes to."""


def never_wait() -> None:
    """Wait for no reader from now on: what is printed is worth less than the work.

    A thread for each place that output goes to: where both streams go to one, their order is kept,
    and where one is not read, the other is shown.
    """
    for stream in _streams.values():
        place = stream.place()
        if place not in _places:
            _places[place] = queue.SimpleQueue()
            threading.Thread(target=_work_off, args=(_places[place],), name="gtpick-output", daemon=True).start()
        stream.never_wait(_places[place])


def _work_off(pending: _Pending) -> None:
    while True:
        stream, data = pending.get()
        stream.write_pending(data)


def problem() -> str:
    """Why something could not be shown, or ""."""
    return next((stream.problem for stream in _streams.values() if stream.problem), "")


def show_at_once(data: bytes) -> None:
    """Write to standard error; may be called in a signal handler, where its buffers must not be
    touched.
    """
    if "stderr" in _streams:
        _streams["stderr"].write(data)
    else:
        with suppress(OSError):
            os.write(2, data)


def in_utf8() -> None:
    """Begin the program anew in Python's UTF-8 mode, where the locale has another encoding for
    names.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "utf-8" or "PYTHONUTF8" in os.environ or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command


def _open_descriptors() -> None:
    """Open those of the three that are closed, lest a file of ours is taken for a terminal."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process


def _encoding() -> str:
    """Of whoever looks on, which the UTF-8 mode hides."""
    if "PYTHONIOENCODING" in os.environ and sys.__stdout__ is not None:
        return sys.__stdout__.encoding
    name = locale.nl_langinfo(locale.CODESET)
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return "utf-8" if found == "ascii" else found  # in the locale C, as Python has it


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What is shown for letters that the encoding lacks: A for Å, an escape for a lone byte."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return _ASCII.get(letter) or plain or printable(letter).encode("ascii", "backslashreplace").decode()
