"""Files that are whole or absent: written under a temporary name, synced, renamed."""

import contextlib
import errno
import os
import re
import secrets
import threading
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from gtpick_rt.errors import UsageError

_DRAFT = re.compile(r"\.\d+-[0-9a-f]{12}\.tmp")
_MAKING = threading.Lock()
"""Held while folders are made."""


def write_atomic(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Replace the file `path` by `data`, one piece or several, whole; folders are made as needed.

    Whatever happens, the file is the old one or the new one; the new one, even after a power cut,
    once this has returned. A process that is killed can leave a hidden `.tmp` file beside it. The
    umask takes its part of `mode`. Raises OSError, which names `path`.
    """
    try:
        make_folder(path.parent)
        _replace(path, (data,) if isinstance(data, bytes) else data, mode)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_new(path: Path, data: bytes) -> None:
    """Write as `write_atomic`, unless there is such a file: of several who do so at the same time,
    one succeeds.
    """
    draft = _draft_in(path.parent)
    write_atomic(draft, data)
    try:
        path.hardlink_to(draft)
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _draft_in(folder: Path) -> Path:
    """A name that no other file in `folder` has."""
    return folder / f".{os.getpid()}-{secrets.token_hex(6)}.tmp"


def _replace(path: Path, pieces: Iterable[bytes], mode: int) -> None:
    temporary = _draft_in(path.parent)
    # O_EXCL: a link that someone put in place is not followed.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that a killed process has left, or is being written."""
    return _DRAFT.fullmatch(name) is not None


def make_folder(folder: Path) -> list[Path]:
    """Make `folder` and those above it that are missing, and make each last; returns those made,
    the innermost first.

    A thread that finds it there waits until the one that is making it is through. Raises OSError,
    which says what is no folder; then none of them is left.
    """
    with _MAKING:
        missing = list(takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for made in missing:
                _sync_folder(made.parent)
        except OSError as error:
            remove_empty(missing)
            if not isinstance(error, FileExistsError | NotADirectoryError):
                raise
            barrier = next(filter(os.path.lexists, (folder, *folder.parents)), folder)
            raise OSError(errno.ENOTDIR, f"{barrier} is no folder", str(folder)) from error
        return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders, given the innermost first, in which there is nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def make_writable(folder: Path) -> None:
    """Make `folder` where it is missing, and see that files can be written to it: asked before what
    takes long.

    Raises UsageError.
    """
    draft = _draft_in(folder)
    try:
        write_atomic(draft, b"")
        draft.unlink()
    except OSError as error:
        raise UsageError(f"{folder}: nothing can be written there ({error.strerror}); choose another folder") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last.

    Some network file systems cannot sync a folder, and say so.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
