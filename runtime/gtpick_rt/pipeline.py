"""Pick many micrographs: the one module that owns threads.

    reader thread      calling thread     writer thread
    read, preprocess → infer, decode    → overlay, commit

Each micrograph is one `_Item` that goes from stage to stage, in the order of the jobs. Only a few are in flight, so
memory does not grow with their number.
"""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from gtpick_rt.commit import commit_picks, discard_picks, list_path, write_atomic, write_autopick
from gtpick_rt.errors import MicrographError, UnwritableError, UsageError
from gtpick_rt.inputs import Job
from gtpick_rt.overlay import draw_overlay
from gtpick_rt.picker import Picker
from gtpick_rt.preprocess import WorkingImage
from gtpick_rt.quality import quality_flags
from gtpick_rt.reading import read_micrograph
from gtpick_rt.reading.info import fault_of_name
from gtpick_rt.summary import Failure, MicrographRecord, ModelRecord, Summary
from gtpick_rt.types import Picks

STAGES = ("read", "preprocess", "infer", "decode", "write")
_AHEAD = 2
"""Results that a thread may have waiting."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every later micrograph would meet too."""

Record = MicrographRecord | Failure
Parameters = dict[str, str | float | bool | None]
T = TypeVar("T")
R = TypeVar("R")


def run(
    jobs: Sequence[Job],
    picker: Picker,
    out: Path,
    threshold: float | None = None,
    *,
    overlays: bool = False,
    force: bool = False,
    failed: Sequence[Failure] = (),
    command: Sequence[str] = (),
    parameters: Parameters | None = None,
    stop: threading.Event | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
) -> Summary:
    """Pick every job and write its outputs, `autopick.star` and `summary.json` under `out`.

    An error in one micrograph is recorded and the run goes on. However the run ends, what is done is committed and the
    two files that list it are written.

    Args:
        jobs: the micrographs.
        picker: finds the particles.
        out: the output folder; made when absent.
        threshold: score from which a detection is a pick, by default the model's own.
        overlays: also draw OUT/overlays/<stem>.png.
        force: replace the picks of an earlier run in `out`.
        failed: what failed before the run, for the summary.
        command: the command line, for the summary.
        parameters: every other setting in force, for the summary.
        stop: once set, the micrograph in inference is finished and no other is begun.
        on_done: called in the calling thread, in order, with each micrograph's record.

    Raises:
        UsageError: `out` holds picks, cannot be made or is full, `threshold` is below the model's floor, or the backend
            failed.

    """
    started = time.perf_counter()
    stages = _Stages(picker, out, _checked_threshold(picker, threshold), overlays)
    stages.failed.extend(failed)
    _claim_folder(out, force)
    stop = stop or threading.Event()
    reader, writer = ThreadPoolExecutor(1, "gtpick-read"), ThreadPoolExecutor(1, "gtpick-write")
    try:
        read = _in_thread(reader, stages.read, _unless(stop, jobs))
        detected = map(stages.detect, _unless(stop, read))
        for record in _in_thread(writer, stages.write, detected):
            on_done(record)
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
        summary = stages.summary(list(command), parameters or {}, time.perf_counter() - started)
        _write_lists(out, stages.done, summary)
    return summary


@dataclass(slots=True)
class _Item:
    """One micrograph on its way; each stage adds what it made. It never holds the full-size image."""

    job: Job
    seconds: dict[str, float] = field(default_factory=dict)
    pixel_size_A: float = 0.0
    image: WorkingImage | None = None
    detections: Picks | None = None
    warnings: list[str] = field(default_factory=list)
    error: Exception | None = None

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - started

    @contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Note an error, which ends this micrograph's way; an error of the set-up ends the run."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            self.error = error


class _Stages:
    """What each thread does to a micrograph, and the books; only the writer thread writes them."""

    def __init__(self, picker: Picker, out: Path, threshold: float, overlays: bool) -> None:
        self.picker, self.out, self.threshold, self.overlays = picker, out, threshold, overlays
        self.done: list[Job] = []
        self.micrographs: list[MicrographRecord] = []
        self.failed: list[Failure] = []
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def read(self, job: Job) -> _Item:
        item = _Item(job)
        with item.keeping_errors():
            with item.timing("read"):
                micrograph = read_micrograph(job.path, job.pixel_size_A)
            item.pixel_size_A = micrograph.pixel_size_A
            item.warnings.extend(micrograph.warnings)
            with item.timing("preprocess"):
                item.image = self.picker.prepare(micrograph)
            if item.image.blank:
                item.warnings.append("the image is blank: nothing to pick")
        return item

    def detect(self, item: _Item) -> _Item:
        if item.image is not None:
            with item.keeping_errors():
                with item.timing("infer"):
                    raw = self.picker.infer(item.image)
                with item.timing("decode"):
                    item.detections = self.picker.assemble(item.image, raw)
        return item

    def write(self, item: _Item) -> Record:
        if item.image is not None and item.detections is not None:
            with item.keeping_errors(), item.timing("write"):
                self._commit(item, item.image, item.detections)
        record = self._record(item)
        if isinstance(record, Failure):
            discard_picks(self.out, item.job)
            self.failed.append(record)
        else:
            self.done.append(item.job)
            self.micrographs.append(record)
        for stage, seconds in item.seconds.items():
            self.seconds[stage] += seconds
        return record

    def _commit(self, item: _Item, image: WorkingImage, detections: Picks) -> None:
        """Write the STAR file last: it is the mark that the micrograph is done."""
        self._draw(item, image, detections)
        with _writing(self.out):
            commit_picks(self.out, item.job, detections, self.threshold)

    def _draw(self, item: _Item, image: WorkingImage, detections: Picks) -> None:
        """Draw the overlay if one is asked for; the picks are worth committing without it."""
        picture = self.out / "overlays" / f"{item.job.stem}.png"
        picks = detections[detections.score >= self.threshold]
        try:
            with _writing(self.out):
                picture.unlink(missing_ok=True)  # one of an earlier run would show other picks
                if self.overlays:
                    write_atomic(picture, draw_overlay(image, picks, self.picker.diameter_A / item.pixel_size_A))
        except UsageError:
            raise
        except Exception as error:
            item.warnings.append(f"no overlay: {_text(error)}")

    def _record(self, item: _Item) -> Record:
        stem, path = str(item.job.stem), str(item.job.path)
        if item.error is not None or item.image is None or item.detections is None:
            # Only our own messages are sure to name the file.
            message = str(item.error) if isinstance(item.error, MicrographError) else f"{path}: {_text(item.error)}"
            return Failure(stem=stem, path=path, kind=type(item.error).__name__, message=message)
        height, width = item.image.shape
        return MicrographRecord(
            stem=stem,
            path=path,
            width=width,
            height=height,
            pixel_size_A=item.pixel_size_A,
            picks=int((item.detections.score >= self.threshold).sum()),
            detections=len(item.detections),
            seconds=sum(item.seconds.values()),
            warnings=item.warnings,
            flags=quality_flags(item.image, item.detections, self.picker.spec),
        )

    def summary(self, command: list[str], parameters: Parameters, seconds: float) -> Summary:
        spec = self.picker.spec
        return Summary(
            command=command,
            parameters={**parameters, "threshold": self.threshold},
            model=ModelRecord(name=spec.name, version=spec.version, sha256=self.picker.model_sha256),
            backend=self.picker.backend.name,
            seconds=seconds,
            stage_seconds=self.seconds,
            micrographs=self.micrographs,
            failed=self.failed,
        )


def _in_thread(pool: ThreadPoolExecutor, stage: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply `stage` to `items` in the pool's thread, a few ahead of the consumer; yields in order."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(stage, item))
        if len(pending) > _AHEAD or pending[0].done():
            yield pending.popleft().result()
    for future in pending:
        yield future.result()


def _unless(stop: threading.Event, items: Iterable[T]) -> Iterator[T]:
    """`items` until `stop` is set."""
    return takewhile(lambda _: not stop.is_set(), items)


def _checked_threshold(picker: Picker, threshold: float | None) -> float:
    spec = picker.spec
    if threshold is None:
        return spec.threshold
    if not spec.floor <= threshold <= 1:
        raise UsageError(
            f"threshold {threshold:g}: {spec.name} keeps scores from {spec.floor:g} to 1; choose one of them"
        )
    return threshold


def check_folder(out: Path, force: bool) -> None:
    """Refuse an output folder that holds picks, unless by `force`, or whose name would not do in a STAR file.

    Raises UsageError. `run` does this too; before it, it spares the user to wait for what will be refused.
    """
    try:
        fault = fault_of_name(out.absolute())
        taken = list_path(out).exists()
    except OSError as error:
        raise _no_folder(out, error) from error
    if fault:
        raise UsageError(f"{str(out.absolute())!r}: the name of the output folder {fault}; choose another --out")
    if taken and not force:
        raise UsageError(f"{out} already holds picks; choose another --out, or --force to replace them")


def _claim_folder(out: Path, force: bool) -> None:
    check_folder(out, force)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(out, error) from error


def _no_folder(out: Path, error: OSError) -> UsageError:
    return UsageError(f"{out}: the output folder cannot be made ({error.strerror}); choose another --out")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Tell a failure of one micrograph's outputs from one that ends the run."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(out, error) from error
        raise UnwritableError(f"{error.filename}: cannot be written ({error.strerror})") from error


def _disk_full(out: Path, error: OSError) -> UsageError:
    return UsageError(f"{out}: disk full or read-only ({error.strerror}): free space and run again with --force")


def _write_lists(out: Path, done: Sequence[Job], summary: Summary) -> None:
    """Write each list, whatever becomes of the other."""
    try:
        try:
            write_autopick(out, done)
        finally:
            write_atomic(out / "summary.json", summary.to_json().encode())
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(out, error) from error
        raise UsageError(f"{error.filename}: cannot be written ({error.strerror}); the picks are whole") from error


def _text(error: Exception | None) -> str:
    return str(error) or repr(error)
