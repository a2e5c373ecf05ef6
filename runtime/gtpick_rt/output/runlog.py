"""The log of a run: a line of JSON for each thing that happened."""

import contextlib
import heapq
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from gtpick_rt.files.shared import names_in, remove

_READ_BYTES = 1 << 16


def time_stamp() -> str:
    """What time it is here, as logs and summaries tell it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def append_entry(log_file: Path, entry: Mapping[str, object]) -> None:
    """Append a line to the log, as far as that can be done."""
    line = json.dumps({"time": time_stamp(), **entry}) + "\n"
    with contextlib.suppress(OSError), _appending(log_file) as log:
        log.write(line.encode())


@contextlib.contextmanager
def _appending(log_file: Path) -> Iterator[BinaryIO]:
    """The log, open at the beginning of a line: the last one may have been torn by a crash or a
    full disk.
    """
    with log_file.open("ab+") as log:
        if log.tell():
            log.seek(-1, os.SEEK_END)
            if log.read() != b"\n":
                log.write(b"\n")
        yield log


def end_shards(folder: Path, log_file: Path) -> None:
    """Take over what was logged in `folder` by runs that shared the output, none of which is at
    work now.

    Raises OSError.
    """
    logs = names_in(folder, f"*{log_file.suffix}")
    if logs:
        lines = heapq.merge(*map(_lines, logs), key=_stamp)
        with _appending(log_file) as log:
            log.writelines(lines)
    for path in logs:  # before the rest, lest they be taken over twice
        remove(path)
    remove(folder)


def _stamp(line: bytes) -> bytes:
    """The time of a line of the log, as text that sorts by it."""
    return line[: len('{"time": "2026-11-26T17:00:00+0000"')]


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one whole or torn; it is not kept open, for there may be very
    many of them.
    """
    offset = 0
    while True:
        with path.open("rb") as file:
            file.seek(offset)
            lines = file.readlines(_READ_BYTES)
        if not lines:
            return
        yield from (line if line.endswith(b"\n") else line + b"\n" for line in lines)
        offset += sum(map(len, lines))
