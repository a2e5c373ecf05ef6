"""What lies in an output folder, but for what lies in other output folders below it."""

import os
from collections.abc import Iterator
from pathlib import Path

from gtpick_rt.output.layout import STAR_SUFFIX, STATE_FOLDER


def folders_in(out: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """The folder and those below it, relative to it, each with the names of the folders and of the
    files in it. What the caller takes from the folders is not looked into.
    """
    for here, folders, files in os.walk(out):
        below = Path(here).relative_to(out)
        if below != Path() and STATE_FOLDER in folders:
            folders.clear()
        else:
            yield below, folders, files


def stems_in(out: Path) -> Iterator[str]:
    """The stems of all STAR files of picks in the folder."""
    for below, folders, files in folders_in(out):
        folders[:] = [name for name in folders if name != STATE_FOLDER]
        prefix = "" if below == Path() else f"{below}/"
        for name in files:
            if name.endswith(STAR_SUFFIX) and not name.startswith("."):
                yield prefix + name.removesuffix(STAR_SUFFIX)
