"""What an output folder keeps of one micrograph: its preview and its detections.

They may be read in any thread.
"""

from pathlib import Path, PurePosixPath

from gtpick_rt.errors import UsageError
from gtpick_rt.following.records import Entry
from gtpick_rt.following.tail import read_regular
from gtpick_rt.output.commit import load_detections
from gtpick_rt.output.layout import detections_path, preview_path
from gtpick_rt.types import Picks

_MOST_PREVIEW_BYTES = 1 << 24


def detections_of(out: Path, entry: Entry) -> Picks:
    """All that was detected on a micrograph. Raises UsageError when that is missing or damaged."""
    path = detections_path(out, PurePosixPath(entry.stem))
    if not _is_inside(out, path):
        raise UsageError(f"{path}: no detections are kept for {entry.stem}; pick it again")
    try:
        return load_detections(out, PurePosixPath(entry.stem))
    except (MemoryError, RuntimeError) as error:  # of an archive that claims to be what it is not
        raise UsageError(f"{path}: the kept detections are damaged ({error}); pick it again") from error


def preview_of(out: Path, entry: Entry) -> bytes | None:
    """The picture of a micrograph, a grey JPEG; None where there is none."""
    path = preview_path(out, PurePosixPath(entry.stem))
    try:
        return read_regular(path, 0, _MOST_PREVIEW_BYTES)[1] if _is_inside(out, path) else None
    except OSError:
        return None


def _is_inside(out: Path, path: Path) -> bool:
    """Whether a file lies in the output folder, wherever links and the name of a micrograph may
    lead.
    """
    try:
        return path.resolve().is_relative_to(out.resolve())
    except (OSError, ValueError, RuntimeError):
        return False
