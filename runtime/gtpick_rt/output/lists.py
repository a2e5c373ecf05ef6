"""The two files that list what a folder holds: `autopick.star` and `summary.json`."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gtpick_rt.arrivals.jobs import project_name
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.formats.star import autopick_star
from gtpick_rt.output.layout import list_path, star_path, summary_path
from gtpick_rt.output.summary import Summary


def write_star_list(out: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write `autopick.star` from name and stem of each micrograph. Raises OSError.

    Paths are relative to the current folder where they lie below it, as RELION wants.
    """
    rows = ((name, project_name(star_path(out, PurePosixPath(stem)))) for name, stem in names)
    write_atomic(list_path(out), map(str.encode, autopick_star(rows)))


def write_summary(out: Path, summary: Summary, records: Iterable[str], failed: Iterable[str]) -> None:
    """Write `summary.json` with the JSON of each record and failure. Raises OSError."""
    write_atomic(summary_path(out), map(str.encode, summary.to_json(records, failed)))
