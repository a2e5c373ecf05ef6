"""What each stage of a run does to one micrograph."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.opening import open_job
from gtpick_rt.arrivals.stamp import Stamp, stamp_if_there
from gtpick_rt.detection.contamination import Contamination, Mask, find_contamination
from gtpick_rt.detection.exclusion import Margins, keep, margins_px
from gtpick_rt.detection.picker import Picker, RawDetections, Submitted
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.errors import IncompleteError, UsageError, as_own, text_of
from gtpick_rt.output.conversion import OVERLAYS
from gtpick_rt.output.overlay import Lengths, draw_overlay, draw_preview
from gtpick_rt.output.pick_files import PickFiles
from gtpick_rt.pipeline.profiling import in_profile
from gtpick_rt.reading.field_of_view import judge_pixel_size
from gtpick_rt.reading.masks import mask_beside, read_mask, read_one_mask
from gtpick_rt.records import Failure, MicrographRecord, Record
from gtpick_rt.types import Micrograph, Picks

_TOLD_SHARE = 0.01
"""Of an image, beyond which it is told that nothing is picked there."""
STAGES = ("read", "preprocess", "infer", "decode", "write")


@dataclass(slots=True)
class Item:
    """One micrograph on its way; each stage adds what it made.

    It never holds the full-size image.
    """

    job: Job
    arrived: float = field(default_factory=time.monotonic)
    stamp: Stamp | None = None
    """Of the file that was read."""
    changed: bool = False
    """The file was written to while it was read."""
    seconds: dict[str, float] = field(default_factory=dict)
    pixel_size_A: float = 0.0
    image: WorkingImage | None = None
    contamination: Contamination = field(default_factory=Contamination)
    preview: bytes = b""
    """Empty where it could not be drawn."""
    raw: RawDetections | None = None
    margins: Margins = field(default_factory=Margins)
    allowed: Mask | None = None
    """Where the mask lets picks lie, at the model's scale."""
    mask_mtime_ns: int | None = None
    warnings: list[str] = field(default_factory=list)
    error: Exception | None = None

    @property
    def lag_s(self) -> float:
        """Since it arrived."""
        return time.monotonic() - self.arrived

    @property
    def is_decided(self) -> bool:
        """Whether the network has seen it, or something went wrong before."""
        return self.raw is not None or self.error is not None

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Note how long this takes, and show it."""
        started = time.perf_counter()
        try:
            with in_profile(stage):
                yield
        finally:
            self.seconds[stage] = time.perf_counter() - started

    def warning(self, what: str) -> AbstractContextManager[None]:
        """Note an error in what is not needed as a warning; an error of the set-up is raised."""
        return _noted(lambda error: self.warnings.append(f"{what}: {text_of(error)}"))

    def keeping_errors(self) -> AbstractContextManager[None]:
        """Note an error, which ends this micrograph's way; an error of the set-up, or a full disk,
        is raised.
        """
        return _noted(partial(setattr, self, "error"))

    @property
    def errno(self) -> int | None:
        """What the operating system said, where it was the cause of the error."""
        cause = self.error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__  # type: ignore[assignment]
        return cause.errno if cause is not None else None

    def failure(self) -> Failure:
        """The record of what went wrong."""
        if self.error is None:
            raise RuntimeError(f"{self.job.path}: nothing went wrong")
        error = as_own(self.error, self.job.path, writing=self.raw is not None)
        return Failure(stem=str(self.job.stem), path=str(self.job.path), kind=type(error).__name__, message=str(error))


@dataclass(slots=True)
class Shown:
    """Micrographs of which the network was shown the tiles."""

    items: list[Item]
    began: float = field(default_factory=time.perf_counter)
    submitted: Submitted | None = None
    error: Exception | None = None

    def keeping_errors(self) -> AbstractContextManager[None]:
        """Note an error, which may be the fault of one of them; one of the set-up is raised."""
        return _noted(partial(setattr, self, "error"))


class Stages:
    """The stages of one run. What concerns the network is called in one thread at a time, the rest
    in any.
    """

    def __init__(self, picker: Picker, files: PickFiles, overlays: bool) -> None:
        self.picker, self.files, self.settings = picker, files, files.settings
        self.overlays = overlays or OVERLAYS in files.conversion.formats
        self._free_since = 0.0  # the network, which one micrograph must not be charged for twice

    def read(self, job: Job) -> Item:
        """Read a micrograph, bring it to the model's scale, and do all that needs no picks: there
        are more readers than writers.
        """
        item = Item(job)
        with item.keeping_errors():
            with item.timing("read"):
                item.stamp = stamp_if_there(job.path)
                micrograph = open_job(job, self.settings.pixel_size_A, keep_float16=True)
                after = stamp_if_there(job.path)
                if after is None or not after.is_still(item.stamp):
                    item.changed = True
                    raise IncompleteError(f"{job.path}: was written to while it was read, again and again")
            item.pixel_size_A = micrograph.pixel_size_A
            item.warnings.extend((*micrograph.warnings, *self._doubts(micrograph)))
            with item.timing("preprocess"):
                item.image = self.picker.prepare(micrograph)
                item.margins = margins_px(self.settings.margin, item.image, item.pixel_size_A)
                item.allowed = self._allowed(item, item.image)
                item.contamination = find_contamination(item.image, self.picker.spec)
                with item.warning("no picture"):
                    item.preview = draw_preview(item.image)
            if item.image.outside is not None and (share := float(item.image.outside.mean())) > _TOLD_SHARE:
                item.warnings.append(f"{share:.0%} of the image is no ice (a beam stop, margin or block): left out")
            if item.image.blank:
                item.warnings.append("the image is blank: nothing to pick")
        return item

    def _doubts(self, micrograph: Micrograph) -> list[str]:
        """What is odd about its pixel size, for particles of this size. Raises PixelError."""
        given = self.settings.pixel_size_A is not None
        shape = (micrograph.data.shape[0], micrograph.data.shape[1])
        doubt = judge_pixel_size(micrograph.path, micrograph.pixel_size_A, shape, self.settings.diameter_A, given=given)
        return [doubt] if doubt else []

    def _allowed(self, item: Item, image: WorkingImage) -> Mask | None:
        """Where the mask lets picks lie; None without one. Raises FormatError or
        UnreadableError.
        """
        if self.settings.mask is None:
            return None
        masks = self.settings.masks
        if masks is None:
            return read_one_mask(Path(self.settings.mask), image.shape, image.data.shape)
        own = mask_beside(masks, str(item.job.stem))
        if own is None:
            item.warnings.append(f"{masks} has no mask for it: picked everywhere")
            return None
        item.mask_mtime_ns = own.stat().st_mtime_ns
        return read_mask(own, image.shape, image.data.shape)

    def tiles(self, item: Item) -> int:
        """How many tiles of a micrograph the network is shown."""
        return 0 if item.image is None or item.error is not None else len(self.picker.tiles(item.image))

    def detect(self, item: Item) -> None:
        """Show the network one micrograph. Raises BackendError."""
        self.collect(self.show([item]))

    def show(self, items: Sequence[Item]) -> Shown:
        """Show the network one micrograph, or several together; what it says is to be collected.
        Raises BackendError.
        """
        shown = Shown([item for item in items if item.image is not None and item.error is None])
        if shown.items:
            with shown.keeping_errors(), in_profile("submit"):
                shown.submitted = self.picker.submit([item.image for item in shown.items if item.image is not None])
        return shown

    def collect(self, shown: Shown) -> None:
        """Wait for what the network says. Raises BackendError."""
        if not shown.items:
            return
        began = max(shown.began, self._free_since)
        if shown.submitted is not None:
            with shown.keeping_errors(), in_profile("collect"):
                raws = self.picker.collect(shown.submitted)
        self._free_since = time.perf_counter()
        if shown.error is None:
            per_tile_s = (self._free_since - began) / max(1, sum(len(raw.tiles) for raw in raws))
            for item, raw in zip(shown.items, raws, strict=True):
                item.raw, item.seconds["infer"] = raw, per_tile_s * len(raw.tiles)
        elif len(shown.items) > 1:  # it may be the fault of one
            for item in shown.items:
                self.detect(item)
        else:
            shown.items[0].error = shown.error

    def write(self, item: Item) -> Record:
        """Make picks of what the network said and commit them; or say why that cannot be.

        Raises BlockedError.
        """
        if item.error is None:
            with item.keeping_errors():
                return self._commit(item)
        return item.failure()

    def _commit(self, item: Item) -> MicrographRecord:
        if item.image is None or item.raw is None or item.stamp is None:
            raise RuntimeError(f"{item.job.path}: not picked yet")
        with item.timing("decode"):
            detections = self.picker.assemble(item.image, item.raw)
        with item.timing("write"):
            return self._write(item, item.image, item.stamp, detections)

    def _write(self, item: Item, image: WorkingImage, stamp: Stamp, found: Picks) -> MicrographRecord:
        kept = keep(
            found,
            image,
            self.picker.spec,
            self.settings,
            margins=item.margins,
            allowed=item.allowed,
            contamination=item.contamination,
        )
        picks = kept.detections[kept.detections.score >= self.settings.threshold]
        self._draw(item, image, picks)
        height, width = image.shape
        record = MicrographRecord(
            stem=str(item.job.stem),
            name=item.job.name,
            path=str(item.job.path),
            size=stamp.size,
            mtime_ns=stamp.mtime_ns,
            width=width,
            height=height,
            pixel_size_A=item.pixel_size_A,
            picks=len(picks),
            detections=len(kept.detections),
            seconds=sum(item.seconds.values()),
            warnings=item.warnings,
            flags=kept.flags,
            median_score=picks.median_score,
            exposure_uid=item.job.exposure_uid,
            exposure_group=item.job.exposure_group,
            left_out=kept.left_out,
            skipped=kept.skipped,
            mask_mtime_ns=item.mask_mtime_ns,
        )
        with in_profile("commit"):
            self.files.commit(record, kept.detections)
        return record

    def _draw(self, item: Item, image: WorkingImage, picks: Picks) -> None:
        """Write the preview, and the overlay if one is asked for; the picks are worth committing
        without them.
        """
        with item.warning("no picture"):
            if item.preview:
                self.files.show(item.job.stem, item.preview)
            picture = None
            if self.overlays:
                picture = draw_overlay(image, picks, Lengths(self.picker.diameter_A, item.pixel_size_A))
            self.files.draw(item.job.stem, picture)


@contextmanager
def _noted(note: Callable[[Exception], None]) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        note(error)
