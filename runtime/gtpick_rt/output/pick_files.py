"""The files of each micrograph in an output folder, as whoever picks it writes them."""

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from gtpick_rt.errors import UnwritableError, UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.files.shared import bytes_of
from gtpick_rt.output.commit import commit_picks, load_detections, write_star
from gtpick_rt.output.conversion import OVERLAYS, SINGLE, Conversion, Finished
from gtpick_rt.output.layout import converted_path, overlay_path, preview_path
from gtpick_rt.output.overlay import Lengths, draw_on_preview
from gtpick_rt.output.summary import Settings
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import Picks

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every later micrograph would meet too, until someone frees space."""


class BlockedError(UsageError):
    """Nothing can be written to the output folder until someone frees space or mends the disk."""


class NoPreviewError(UsageError):
    """An overlay cannot be drawn, for want of the preview."""


@contextmanager
def writing_to(out: Path, is_held: Callable[[], bool]) -> Iterator[None]:
    """Where files are written to `out`: raises BlockedError, UnwritableError, or UsageError when it
    is not ours.
    """
    try:
        if not is_held():  # what is written now would be lost, or lie where another run writes
            raise UsageError(f"{out}: the output folder was removed, or taken over, while picking; run again")
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise BlockedError(f"{out}: disk full or read-only ({error.strerror})") from error
        raise UnwritableError(f"{error.filename}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True)
class PickFiles:
    """Writes the files of one micrograph after the other; any thread may.

    Raises as `writing_to` does.
    """

    out: Path
    settings: Settings
    conversion: Conversion
    is_held: Callable[[], bool]
    """Whether the run that this is part of still owns the folder."""

    def commit(self, record: MicrographRecord, detections: Picks) -> None:
        """Write what was found on a micrograph; its STAR file, the mark that it is done, last."""
        self.convert(Finished(record, self.settings, detections), self.conversion.single)
        with writing_to(self.out, self.is_held):
            line, threshold = self._line(record), self.settings.threshold
            commit_picks(self.out, PurePosixPath(record.stem), detections, threshold, line)

    def load(self, record: MicrographRecord) -> Finished:
        """Read what was found on a micrograph back, at the threshold in force.

        Raises UsageError.
        """
        detections = load_detections(self.out, PurePosixPath(record.stem))
        return Finished.at(self.settings, record, detections)

    def convert(self, done: Finished, formats: Sequence[str]) -> None:
        """Write these files of a micrograph in other formats. Raises NoPreviewError where an
        overlay cannot be drawn.
        """
        stem = PurePosixPath(done.record.stem)
        for name in formats:
            if name == OVERLAYS:
                self.draw(stem, self._overlay(done, stem))
                continue
            with writing_to(self.out, self.is_held):
                write_atomic(converted_path(self.out, name, stem), SINGLE[name](done, self.conversion).encode())

    def _overlay(self, done: Finished, stem: PurePosixPath) -> bytes:
        """Draw on the preview, which is there also where the micrograph itself is not any more."""
        path, record = preview_path(self.out, stem), done.record
        lengths = Lengths(self.settings.diameter_A, record.pixel_size_A)
        try:
            preview = bytes_of(path)
            if preview is None:
                raise FileNotFoundError(errno.ENOENT, "is not there")
            return draw_on_preview(preview, (record.height, record.width), done.picks, lengths)
        except OSError as error:
            raise NoPreviewError(
                f"{path}: no overlay can be drawn without the preview ({error.strerror or error}); pick {stem} again"
            ) from error

    def rewrite(self, done: Finished) -> bool:
        """Write the STAR file of a micrograph anew, for detections that are kept.

        An overlay, which would show other picks, is removed; tells whether there was one.
        """
        stem = PurePosixPath(done.record.stem)
        overlaid = overlay_path(self.out, stem).exists()
        self.draw(stem, None)
        with writing_to(self.out, self.is_held):
            write_star(self.out, stem, done.detections, self.settings.threshold, self._line(done.record))
        return overlaid

    def draw(self, stem: PurePosixPath, picture: bytes | None) -> None:
        """Replace the picture of a micrograph."""
        path = overlay_path(self.out, stem)
        with writing_to(self.out, self.is_held):
            path.unlink(missing_ok=True)  # one of an earlier run would show other picks
            if picture is not None:
                write_atomic(path, picture)

    def show(self, stem: PurePosixPath, preview: bytes) -> None:
        """Replace the preview of a micrograph."""
        with writing_to(self.out, self.is_held):
            write_atomic(preview_path(self.out, stem), preview)

    def _line(self, record: MicrographRecord) -> str:
        return json.dumps({"settings": asdict(self.settings), "record": asdict(record)})
