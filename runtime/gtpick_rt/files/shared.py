"""Reading what other processes may write, move or remove at the same moment: what is gone counts as
absent.
"""

import fnmatch
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_LISTINGS = 100
"""Times that a tree is listed anew because a folder in it has vanished."""


def unless_gone(read: Callable[[], T], absent: T) -> T:
    """What `read` gives, or `absent` where a file or folder on the way is not there.

    Raises any other OSError.
    """
    try:
        return read()
    except (FileNotFoundError, NotADirectoryError):
        return absent


def names_in(folder: Path, pattern: str) -> list[Path]:
    """The paths in `folder` whose names match the glob `pattern`, sorted; none where the folder is
    gone.

    Unlike `Path.glob`, which fails in some versions of Python when the folder is removed while it
    is listed.
    """
    names = unless_gone(partial(os.listdir, folder), list[str]())
    return [folder / name for name in sorted(fnmatch.filter(names, pattern))]


def paths_below(root: Path, pattern: str) -> list[Path]:
    """The paths below `root` that match the glob `pattern`, ** included, in no order; none where
    the root is gone.

    What is removed meanwhile may be among them or not; all else is. Raises OSError, and what
    `Path.glob` raises.
    """
    for _ in range(_LISTINGS):
        if root.exists():
            try:
                return list(root.glob(pattern))
            except FileNotFoundError:  # a folder was removed between being found and being listed: once more
                continue
        return []
    return list(root.glob(pattern))


def bytes_of(path: Path) -> bytes | None:
    """The content of a file; None where it is gone."""
    return unless_gone(path.read_bytes, None)


def status_of(path: Path) -> os.stat_result | None:
    """What the file system says of a file or folder; None where it is gone."""
    return unless_gone(path.stat, None)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, which others may be removing too."""
    if path.is_dir():
        shutil.rmtree(path, onerror=_raise_unless_gone)
    else:
        path.unlink(missing_ok=True)


def _raise_unless_gone(function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
