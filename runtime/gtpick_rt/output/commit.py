"""Outputs that are whole or absent: written under a temporary name, synced, renamed.

A micrograph is done when its STAR file is there. The detections that re-thresholding needs are
written before it.
"""

import contextlib
import io
import threading
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from gtpick_rt.errors import UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.shared import bytes_of
from gtpick_rt.formats.star import picks_to_star
from gtpick_rt.output.conversion import OVERLAYS, SINGLE
from gtpick_rt.output.layout import converted_path, detections_path, preview_path, star_path
from gtpick_rt.types import Picks

_PARSING = threading.Lock()
"""Held while numpy reads headers as Python text: in two threads at a time, CPython 3.11 can raise
SystemError."""


def commit_picks(out: Path, stem: PurePosixPath, detections: Picks, threshold: float, record: str) -> Path:
    """Keep all `detections`, then write those of score >= `threshold` as STAR: the file that marks
    the job done.

    `record` is one line of text that goes into the STAR file: `formats.star.read_record` gives it
    back. Returns the path of the STAR file. Raises OSError.
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
    converted = (converted_path(out, name, stem) for name in (*SINGLE, OVERLAYS))
    for path in (star_path(out, stem), detections_path(out, stem), preview_path(out, stem), *converted):
        with contextlib.suppress(OSError):
            path.unlink()


def load_detections(out: Path, stem: PurePosixPath) -> Picks:
    """Read back the detections that `commit_picks` kept.

    Raises UsageError when they are missing or damaged.
    """
    found = find_detections(out, stem)
    if found is None:
        raise UsageError(f"{detections_path(out, stem)}: no detections are kept for {stem}; pick it again")
    return found


def find_detections(out: Path, stem: PurePosixPath) -> Picks | None:
    """Do as `load_detections`, but give None when they are missing."""
    path = detections_path(out, stem)
    try:
        data = bytes_of(path)
        if data is None:
            return None
        with _PARSING, np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Picks(arrays["xy_px"], arrays["diameter_px"], arrays["score"])
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: the kept detections are damaged ({error}); pick {stem} again") from error
