"""The files of the index of an output folder, and the STAR files that it is of."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gtpick_rt.files.shared import unless_gone
from gtpick_rt.output.layout import STAR_SUFFIX, STATE_FOLDER


def remove_index(path: Path) -> None:
    """Remove an index with what SQLite keeps beside it. Raises OSError."""
    for each in _files_of(path):
        each.unlink(missing_ok=True)


def _files_of(index: Path) -> tuple[Path, Path]:
    """The file and its journal, without which one that was being written when its process died is
    damaged.
    """
    return index, index.with_name(f"{index.name}-journal")


def copy_index(index: Path, copy: Path) -> None:
    """Begin a new index with all that another one holds, to which nobody writes meanwhile.

    Raises OSError.
    """
    for old, new in zip(_files_of(index), _files_of(copy), strict=True):
        unless_gone(partial(shutil.copyfile, old, new), None)


def stems_in(out: Path) -> Iterator[str]:
    """The stems of all STAR files of picks in the folder, but for those in other output folders
    below it.
    """
    for here, folders, files in os.walk(out):
        below = Path(here).relative_to(out)
        if below != Path() and STATE_FOLDER in folders:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name != STATE_FOLDER]
        prefix = "" if below == Path() else f"{below}/"
        for name in files:
            if name.endswith(STAR_SUFFIX) and not name.startswith("."):
                yield prefix + name.removesuffix(STAR_SUFFIX)
