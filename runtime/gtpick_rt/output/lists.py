"""The two files that list what a folder holds: `autopick.star` and `summary.json`."""

import math
import time
from collections.abc import Iterable
from pathlib import Path

from gtpick_rt.arrivals.jobs import project_name
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.formats.star import autopick_star
from gtpick_rt.output.layout import STAR_SUFFIX, list_path, summary_path
from gtpick_rt.output.runlog import time_stamp
from gtpick_rt.output.summary import Summary


class Hold:
    """Whether the list of picks is held back: what nobody has taken up can be replaced."""

    def __init__(self, out: Path) -> None:
        self._path, self._until = list_path(out), 0.0

    @property
    def given_out(self) -> bool:
        """Whether there is a list, by which others may have taken picks up."""
        return self._path.exists()

    @property
    def is_over(self) -> bool:
        """Whether the list may be written."""
        return time.monotonic() >= self._until

    def begin(self, seconds: float) -> None:
        """Hold it back for so long; for ever, where all picks will be replaced."""
        self._until = time.monotonic() + seconds

    def end(self) -> None:
        """Hold it back no more, unless for ever."""
        if self._until < math.inf:
            self._until = 0.0


def write_star_list(out: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write `autopick.star` from name and stem of each micrograph. Raises OSError.

    Paths are relative to the current folder where they lie below it, as RELION wants.
    """
    folder = project_name(out)
    prefix = "" if folder == "." else f"{folder}/"
    rows = ((name, f"{prefix}{stem}{STAR_SUFFIX}") for name, stem in names)
    write_atomic(list_path(out), map(str.encode, autopick_star(rows)))


def write_summary(out: Path, summary: Summary, records: Iterable[str], failed: Iterable[str]) -> None:
    """Write `summary.json` with the JSON of each record and failure. Raises OSError."""
    write_atomic(summary_path(out), map(str.encode, summary.to_json(records, failed, time_stamp())))
