"""What is gained by files of an output folder that another process writes; nothing is ever waited
for.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 20
"""Of the log, that are read at a time."""
_HEAD_BYTES = 1 << 20
"""Of the summary before its list of micrographs: with it come some thousand workers."""
_LIST = b',\n "micrographs": ['


def read_regular(path: Path, start: int, count: int) -> tuple[os.stat_result, bytes]:
    """Read at most `count` bytes from `start` of a regular file.

    Raises OSError, also where it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would be waited for
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path}: no regular file")
        return found, os.pread(descriptor, count, start)
    finally:
        os.close(descriptor)


class Tail:
    """The lines that a log has gained, a bounded number at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset, self._torn = 0, b""
        self.behind = False
        """Whether there is more to be read at once."""

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether this is another log than before, and its new lines.

        What is not a whole line yet comes later.
        """
        try:
            found, data = read_regular(self._path, self._offset, _MOST_BYTES)
            file = (found.st_dev, found.st_ino)
        except OSError:
            found, data, file = None, b"", None
        if file != self._file or (found is not None and found.st_size < self._offset):
            anew = self._file is not None
            self._file, self._offset, self._torn = file, 0, b""
            self.behind = file is not None
            return anew, []
        self._offset += len(data)
        self.behind = len(data) == _MOST_BYTES
        *lines, torn = (self._torn + data).split(b"\n")
        self._torn = torn[-_MOST_BYTES:]  # without an end it is no line of ours
        return False, lines


class Head:
    """What the summary says of the run as a whole; the list of all micrographs, which comes after
    it, is not read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self.mtime: float | None = None
        """When it was written, by the clock of its file system; None while it is not there."""

    def read(self) -> dict[str, Any] | None:
        """What it says now; None where it says the same as before."""
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns)
            if stamp == self._stamp:
                return None
            self._stamp, self.mtime = stamp, found.st_mtime
            head, _, _ = read_regular(self._path, 0, _HEAD_BYTES)[1].partition(_LIST)
            read = json.loads(head + b"}")
        except (OSError, ValueError, RecursionError):
            changed, self._stamp, self.mtime = self._stamp is not None, None, None
            return {} if changed else None
        return read if isinstance(read, dict) else {}
