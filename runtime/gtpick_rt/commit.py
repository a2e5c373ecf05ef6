"""Outputs that are whole or absent: written under a temporary name, synced, renamed.

A micrograph is done when its STAR file is there. The detections that re-thresholding needs are written before it.
"""

import contextlib
import errno
import io
import os
import secrets
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.star import picks_to_star
from gtpick_rt.formats.writing import SINGLE
from gtpick_rt.layout import converted_path, detections_path, preview_path, star_path
from gtpick_rt.types import Picks

_TEMPORARY = ".tmp"
_PARSING = threading.Lock()
"""Held while numpy reads headers as Python text: in two threads at a time, CPython 3.11 can raise SystemError."""


def write_atomic(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Replace the file `path` by `data`, one piece or several, whole; folders are made as needed.

    Whatever happens, the file is the old one or the new one; the new one, even after a power cut, once this has
    returned. A process that is killed can leave a hidden `.tmp` file beside it. The umask takes its part of `mode`.
    Raises OSError, which names `path`.
    """
    try:
        make_folder(path.parent)
        _replace(path, (data,) if isinstance(data, bytes) else data, mode)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_new(path: Path, data: bytes) -> None:
    """Write as `write_atomic`, unless there is such a file: of several who do so at the same time, one succeeds."""
    draft = path.parent / f".{os.getpid()}-{secrets.token_hex(6)}{_TEMPORARY}"
    write_atomic(draft, data)
    try:
        path.hardlink_to(draft)
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _replace(path: Path, pieces: Iterable[bytes], mode: int) -> None:
    temporary = path.parent / f".{os.getpid()}-{secrets.token_hex(6)}{_TEMPORARY}"
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


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes have left below `folder`, which nobody writes to now."""
    for here, _, files in os.walk(folder):
        for name in files:
            if name.startswith(".") and name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    (Path(here) / name).unlink()


def commit_picks(out: Path, stem: PurePosixPath, detections: Picks, threshold: float, record: str) -> Path:
    """Keep all `detections`, then write those of score >= `threshold` as STAR: the file that marks the job done.

    `record` is one line of text that goes into the STAR file: `formats.star.read_record` gives it back. Returns the
    path of the STAR file. Raises OSError.
    """
    buffer = io.BytesIO()
    np.savez(buffer, xy_px=detections.xy_px, diameter_px=detections.diameter_px, score=detections.score)
    write_atomic(detections_path(out, stem), buffer.getvalue())
    return write_star(out, stem, detections, threshold, record)


def write_star(out: Path, stem: PurePosixPath, detections: Picks, threshold: float, record: str) -> Path:
    """Do as `commit_picks`, for `detections` that are kept already."""
    path = star_path(out, stem)
    write_atomic(path, picks_to_star(detections[detections.score >= threshold], record).encode())
    return path


def discard_picks(out: Path, stem: PurePosixPath) -> None:
    """Remove what was committed for a micrograph, as far as that can be done."""
    converted = (converted_path(out, suffix, stem) for suffix in SINGLE)
    for path in (star_path(out, stem), detections_path(out, stem), preview_path(out, stem), *converted):
        with contextlib.suppress(OSError):
            path.unlink()


def load_detections(out: Path, stem: PurePosixPath) -> Picks:
    """Read back the detections that `commit_picks` kept. Raises UsageError when they are missing or damaged."""
    path = detections_path(out, stem)
    try:
        data = io.BytesIO(path.read_bytes())
        with _PARSING, np.load(data, allow_pickle=False) as arrays:
            return Picks(arrays["xy_px"], arrays["diameter_px"], arrays["score"])
    except FileNotFoundError:
        raise UsageError(f"{path}: no detections are kept for {stem}; pick it again") from None
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: the kept detections are damaged ({error}); pick {stem} again") from error


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it that are missing, and make each last."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last. Some network file systems cannot sync a folder, and say so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
