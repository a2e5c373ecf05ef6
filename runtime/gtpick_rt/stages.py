"""What each stage of a run does to one micrograph."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gtpick_rt.arrivals.stamp import Stamp, stamp_if_there
from gtpick_rt.errors import MicrographError, UsageError
from gtpick_rt.inputs import Job
from gtpick_rt.output import OutputFolder
from gtpick_rt.overlay import draw_overlay, draw_preview
from gtpick_rt.picker import Picker
from gtpick_rt.preprocess import WorkingImage
from gtpick_rt.quality import quality_flags
from gtpick_rt.reading import read_micrograph
from gtpick_rt.summary import Failure, MicrographRecord, Record, Settings
from gtpick_rt.types import Picks

STAGES = ("read", "preprocess", "infer", "decode", "write")
TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.EHOSTDOWN)
"""What a network file system says while a server is away."""


@dataclass(slots=True)
class Item:
    """One micrograph on its way; each stage adds what it made. It never holds the full-size image."""

    job: Job
    arrived: float = field(default_factory=time.monotonic)
    stamp: Stamp | None = None
    """Of the file that was read."""
    changed: bool = False
    """The file was written to while it was read."""
    seconds: dict[str, float] = field(default_factory=dict)
    pixel_size_A: float = 0.0
    image: WorkingImage | None = None
    detections: Picks | None = None
    warnings: list[str] = field(default_factory=list)
    error: Exception | None = None

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Note how long this takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - started

    @contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Note an error, which ends this micrograph's way; an error of the set-up, or a full disk, is raised."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            self.error = error

    @property
    def errno(self) -> int | None:
        """What the operating system said, where it was the cause of the error."""
        cause = self.error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__  # type: ignore[assignment]
        return cause.errno if cause is not None else None

    def failure(self) -> Failure:
        """The record of what went wrong."""
        # Only our own messages are sure to name the file.
        own = isinstance(self.error, MicrographError)
        message = str(self.error) if own else f"{self.job.path}: {text_of(self.error)}"
        return Failure(
            stem=str(self.job.stem), path=str(self.job.path), kind=type(self.error).__name__, message=message
        )


class Stages:
    """The stages of one run, and how long each was busy; each is called in one thread at a time."""

    def __init__(self, picker: Picker, output: OutputFolder, settings: Settings, overlays: bool) -> None:
        self.picker, self.output, self.settings, self.overlays = picker, output, settings, overlays
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.picked = 0

    def read(self, job: Job) -> Item:
        """Read a micrograph and bring it to the model's scale."""
        item = Item(job)
        with item.keeping_errors():
            with item.timing("read"):
                item.stamp = stamp_if_there(job.path)
                micrograph = read_micrograph(job.path, self.settings.pixel_size_A, job.pixel_size_A, keep_float16=True)
                item.changed = stamp_if_there(job.path) != item.stamp
            item.pixel_size_A = micrograph.pixel_size_A
            item.warnings.extend(micrograph.warnings)
            with item.timing("preprocess"):
                item.image = self.picker.prepare(micrograph)
            if item.image.blank:
                item.warnings.append("the image is blank: nothing to pick")
        return item

    def detect(self, item: Item) -> None:
        """Find the particles."""
        if item.image is not None and item.error is None:
            with item.keeping_errors():
                with item.timing("infer"):
                    raw = self.picker.infer(item.image)
                with item.timing("decode"):
                    item.detections = self.picker.assemble(item.image, raw)

    def write(self, item: Item) -> Record:
        """Commit what was found, or note why nothing was. Raises BlockedError or UsageError."""
        record: Record | None = None
        if item.error is None:
            with item.keeping_errors(), item.timing("write"):
                record = self._commit(item)
        if record is None:
            record = item.failure()
            self.output.fail(record)
        else:
            self.picked += 1
        for stage, seconds in item.seconds.items():
            self.seconds[stage] += seconds
        return record

    def _commit(self, item: Item) -> MicrographRecord:
        if item.image is None or item.detections is None or item.stamp is None:
            raise RuntimeError(f"{item.job.path}: not picked yet")
        picks = item.detections[item.detections.score >= self.settings.threshold]
        self._draw(item, item.image, picks)
        height, width = item.image.shape
        record = MicrographRecord(
            stem=str(item.job.stem),
            name=item.job.name,
            path=str(item.job.path),
            size=item.stamp.size,
            mtime_ns=item.stamp.mtime_ns,
            width=width,
            height=height,
            pixel_size_A=item.pixel_size_A,
            picks=len(picks),
            detections=len(item.detections),
            seconds=sum(item.seconds.values()),
            warnings=item.warnings,
            flags=quality_flags(item.image, item.detections, self.picker.spec),
            median_score=picks.median_score,
            exposure_uid=item.job.exposure_uid,
            exposure_group=item.job.exposure_group,
        )
        self.output.commit(record, item.detections)
        return record

    def _draw(self, item: Item, image: WorkingImage, picks: Picks) -> None:
        """Draw the preview, and the overlay if one is asked for; the picks are worth committing without them."""
        try:
            self.output.show(item.job.stem, draw_preview(image))
            picture = None
            if self.overlays:
                picture = draw_overlay(image, picks, self.picker.diameter_A / item.pixel_size_A)
            self.output.draw(item.job.stem, picture)
        except UsageError:
            raise
        except Exception as error:
            item.warnings.append(f"no picture: {text_of(error)}")


def text_of(error: Exception | None) -> str:
    """Say what an error says, or which it is when it says nothing."""
    return str(error) or repr(error)
