"""The files of the index of an output folder."""

import shutil
from functools import partial
from pathlib import Path

from gtpick_rt.files.shared import unless_gone


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
