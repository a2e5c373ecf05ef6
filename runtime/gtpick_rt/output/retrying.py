"""Requests to try a micrograph again, which other processes leave in the output folder for the one
that picks.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.shared import bytes_of, names_in, remove
from gtpick_rt.output.layout import retry_folder

_POLL_S = 1.0


def ask_again(out: Path, stem: str) -> None:
    """Ask the run that picks into `out`, or the next one, to try the micrograph of `stem` again.

    Raises OSError.
    """
    write_atomic(retry_folder(out) / hashlib.sha256(stem.encode()).hexdigest(), stem.encode())


class Requests:
    """What others have asked for, looked at now and then."""

    def __init__(
        self, out: Path, holds: Callable[[str], bool] = lambda stem: True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._holds, self._clock, self._due = retry_folder(out), holds, clock, 0.0

    def take(self) -> Iterator[str]:
        """The stems that were asked for since, of those that are held here; each is given once."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + _POLL_S
        paths = list[Path]()
        with contextlib.suppress(OSError):
            paths = names_in(self._folder, "[!.]*")  # a hidden one is being written
        for path in paths:
            with contextlib.suppress(OSError):  # what cannot be read or removed is no request of ours
                asked = bytes_of(path)
                stem = (asked or b"").decode(errors="replace")
                if asked is not None and self._holds(stem):
                    remove(path)
                    yield stem
