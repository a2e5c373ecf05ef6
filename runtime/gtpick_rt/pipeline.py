"""Pick many micrographs: the one module that owns threads.

    arrivals   →   reading thread    →   calling thread   →   writing thread
    thread         read, preprocess      infer, decode        commit, lists

Between them are short belts, so that memory does not grow with the number of micrographs; when one thread fails, all
end. No stage waits for ever for a disk or a device that does not answer.
"""

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from gtpick_rt.arrivals import WAITING, Source
from gtpick_rt.belt import Belt, NobodyTakesError
from gtpick_rt.converting import convert
from gtpick_rt.errors import BackendError, HungError, IncompleteError, UnwritableError, UsageError
from gtpick_rt.hand import Hand
from gtpick_rt.inputs import Job
from gtpick_rt.output import BlockedError, OutputFolder
from gtpick_rt.picker import Picker
from gtpick_rt.retrying import Requests
from gtpick_rt.stages import TRANSIENT, Item, Stages, text_of
from gtpick_rt.summary import Failure, ModelRecord, Record, Settings, Summary

_AHEAD = 2
"""Items that may wait between two threads."""
_TRIES_S = (0.5, 2.0)
"""Pauses between attempts to read when a file system fails."""
_AGAIN_S = 30.0
"""After which a micrograph is tried again that could not be read or written, and a full disk is tried again."""
_CHANGED_S = 2.0
"""After which a micrograph is read again that changed while it was read."""
_ROUNDS = 5
"""Times that a micrograph is tried again before it counts as failed."""
DEADLINE_S = 300.0
"""Within which every stage must be through with a micrograph."""
_MOST_HANGING = 3
"""Micrographs in a row that may hang in reading before the run gives up: then it is the disk."""

Parameters = dict[str, str | float | bool | None]
T = TypeVar("T")


def settings_of(picker: Picker, threshold: float | None = None, pixel_size_A: float | None = None) -> Settings:
    """What decides which picks a run makes; `threshold` is by default the model's own.

    Raises UsageError when the threshold is below the scores that the model keeps.
    """
    spec = picker.spec
    threshold = spec.threshold if threshold is None else threshold
    if not spec.floor <= threshold <= 1:
        raise UsageError(
            f"threshold {threshold:g}: {spec.name} keeps scores from {spec.floor:g} to 1; choose one of them"
        )
    return Settings(
        model=f"{spec.name} {spec.version}",
        model_sha256=picker.model_sha256,
        diameter_A=picker.diameter_A,
        contrast=picker.contrast,
        threshold=threshold,
        pixel_size_A=pixel_size_A,
    )


def run(
    source: Source,
    picker: Picker,
    output: OutputFolder,
    settings: Settings,
    *,
    overlays: bool = False,
    formats: Sequence[str] = (),
    command: Sequence[str] = (),
    parameters: Parameters | None = None,
    stop: threading.Event | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
    on_notice: Callable[[str], None] = lambda text: None,
    on_log: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    deadline_s: float = DEADLINE_S,
) -> Summary:
    """Pick what the source brings and write its outputs, `autopick.star` and `summary.json`.

    An error in one micrograph is recorded and the run goes on; while the disk is full it waits. However the run ends,
    what is done is committed and the two files that list it are written.

    Args:
        source: brings the micrographs.
        picker: finds the particles.
        output: the folder that takes them.
        settings: from `settings_of`.
        overlays: also draw OUT/overlays/<stem>.png.
        formats: also write these, of `formats.writing`, and those that the folder has already.
        command: the command line, for the summary.
        parameters: every other setting in force, for the summary.
        stop: once set, the micrograph in inference is finished and no other is begun.
        on_done: called in the writing thread, in order, with each micrograph's record.
        on_notice: called in any thread with what the user should know of the run as a whole.
        on_log: called in any thread with each entry of the log.
        deadline_s: within which every stage must be through with a micrograph.

    Raises:
        UsageError: `output` holds picks of other settings or was removed, the disk was full when the run was stopped,
            or a disk or the backend failed or hangs.

    """
    output.begin(settings, formats)
    output.log(state="begun", settings=vars(settings), backend=picker.backend.name)
    spec = picker.spec
    stages = Stages(picker, output, settings, overlays)
    started = time.perf_counter()

    def summary() -> Summary:
        return Summary(
            command=list(command),
            parameters={**(parameters or {}), "threshold": settings.threshold},
            model=ModelRecord(name=spec.name, version=spec.version, sha256=picker.model_sha256, floor=spec.floor),
            backend=picker.backend.name,
            seconds=time.perf_counter() - started,
            stage_seconds=dict(stages.seconds),
            picked=stages.picked,
            totals=output.totals,
            backlog=source.backlog,
        )

    _Run(source, stages, stop or threading.Event(), deadline_s, summary, on_done, on_notice, on_log).go()
    return summary()


class _Run:
    """The threads of one run."""

    def __init__(
        self,
        source: Source,
        stages: Stages,
        stop: threading.Event,
        deadline_s: float,
        summary: Callable[[], Summary],
        on_done: Callable[[Record], None],
        on_notice: Callable[[str], None],
        on_log: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.source, self.stages, self.output, self.stop = source, stages, stages.output, stop
        self.deadline_s, self.summary = deadline_s, summary
        self.on_done, self.on_notice, self.on_log = on_done, on_notice, on_log
        self.arrived: Belt[Job | Failure] = Belt(_AHEAD)
        self.read: Belt[Item | Failure] = Belt(_AHEAD)
        self.detected: Belt[Item | Failure] = Belt(_AHEAD)
        self.error: BaseException | None = None
        self.reading, self.inferring, self.writing = (
            Hand("gtpick-reading"),
            Hand("gtpick-inferring"),
            Hand("gtpick-writing"),
        )
        self.requests = Requests(stages.output.path)
        self.rounds: Counter[Job] = Counter()
        self.hanging = 0

    def go(self) -> None:
        """Run to the end of the source, to `stop`, or to the first error."""
        threads = [
            threading.Thread(target=self._stage, args=arguments, name=f"gtpick-{name}", daemon=True)
            for name, arguments in {
                "arrivals": (self._arrive, None, self.arrived),
                "read": (self._read, self.arrived, self.read),
                "write": (self._write, self.detected, None),
            }.items()
        ]
        for thread in threads:
            thread.start()
        self._stage(self._detect, self.read, self.detected)
        for thread in threads:
            thread.join()
        try:
            self._stage(self._convert, None, None)
            self._write_last_lists()
        finally:
            for hand in (self.reading, self.inferring, self.writing):
                hand.rest()
            if self.error is not None:
                raise self.error

    def _stage(self, body: Callable[[], None], inlet: Belt[Any] | None, outlet: Belt[Any] | None) -> None:
        """Run one stage to its end. After an error what is before it is given up, and what is after it committed."""
        try:
            body()
        except NobodyTakesError:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.stop.set()
        finally:
            if inlet is not None:
                inlet.leave()
            if outlet is not None:
                outlet.end()

    def _arrive(self) -> None:
        for arrival in self.source:
            if self.stop.is_set():
                return
            for stem in self.requests.take():
                self.source.retry(stem)
            if arrival is not None:
                self.arrived.put(arrival)

    def _read(self) -> None:
        for arrival in self.arrived:
            if isinstance(arrival, Failure):
                self.read.put(arrival)
            elif arrival is not None and not self.stop.is_set():
                item = self._read_patiently(arrival)
                if not self._is_left(item):
                    self.read.put(item)

    def _read_patiently(self, job: Job) -> Item:
        """Read; and read again after pauses when the file system fails."""
        for pause_s in (*_TRIES_S, 0.0):
            try:
                item = self.reading.do(partial(self.stages.read, job), self.deadline_s)
                self.hanging = 0
            except TimeoutError:
                self.hanging += 1
                if self.hanging > _MOST_HANGING:
                    raise UsageError(f"{job.path}: the disk does not answer; the run ends, run it again") from None
                item = Item(job, error=HungError(f"{job.path}: reading did not end in {self.deadline_s:g} s; copy it"))
            if item.errno not in TRANSIENT or self.stop.wait(pause_s):
                break
        return item

    def _is_left(self, item: Item) -> bool:
        """Whether a micrograph goes no further now: it is gone, or will come again."""
        if item.errno == errno.ENOENT and self.source.live:
            self._log(state="gone", path=str(item.job.path))
            self.source.done(item.job)
            return True
        if item.changed:
            item.error = IncompleteError(f"{item.job.path}: was written to while it was read, again and again")
            return self._comes_again(item, _CHANGED_S)
        return item.errno in TRANSIENT and self._comes_again(item, _AGAIN_S)

    def _comes_again(self, item: Item, after_s: float) -> bool:
        if self.rounds[item.job] >= _ROUNDS:
            return False
        self.rounds[item.job] += 1
        self._log(state="again", path=str(item.job.path), message=text_of(item.error))
        self.source.again(item.job, after_s)
        return True

    def _detect(self) -> None:
        for item in self.read:
            if isinstance(item, Item):
                if self.stop.is_set():
                    continue
                try:
                    self.inferring.do(partial(self.stages.detect, item), self.deadline_s)
                except TimeoutError:
                    raise BackendError(
                        f"{item.job.path}: inference did not end in {self.deadline_s:g} s; "
                        "the device or its driver hangs"
                    ) from None
            if item is not None:
                self.detected.put(item)

    def _write(self) -> None:
        for item in self.detected:
            if isinstance(item, Failure) and item.kind == WAITING:
                self.on_notice(item.message)
            elif isinstance(item, Failure):
                self._when_possible(partial(self.output.report, item))
                self._tell(item)
            elif item is not None:
                self._write_item(item)
            if self.output.lists_due:
                with suppress(BlockedError, UnwritableError):  # they are written again, and at the end for certain
                    self._write_lists()

    def _write_item(self, item: Item) -> None:
        record = self._when_possible(partial(self.stages.write, item))
        if isinstance(record, Failure) and item.errno in TRANSIENT and self._comes_again(item, _AGAIN_S):
            return
        del self.rounds[item.job]
        self.source.done(item.job)
        self._tell(record, lag_s=time.monotonic() - item.arrived, stage_seconds=item.seconds)

    def _tell(self, record: Record, **figures: object) -> None:
        state = "failed" if isinstance(record, Failure) else "picked"
        self._log(state=state, **vars(record), **figures)
        self.on_done(record)

    def _log(self, **entry: object) -> None:
        entry["backlog"] = self.source.backlog
        self.output.log(**entry)
        self.on_log(entry)

    def _when_possible(self, write: Callable[[], T]) -> T:
        """Write; while the disk is full or fails, wait and try again."""
        told = False
        while True:
            try:
                return self._on_disk(write)
            except (BlockedError, UnwritableError) as error:
                if not told:
                    self.on_notice(f"{error}: waiting until it can be written to")
                    told = True
                if self.stop.wait(_AGAIN_S):
                    raise UsageError(f"{error}: free space and run again") from error

    def _on_disk(self, write: Callable[[], T]) -> T:
        try:
            return self.writing.do(write, self.deadline_s)
        except TimeoutError:
            raise UsageError(f"{self.output.path}: the disk does not answer; run again when it does") from None

    def _convert(self) -> None:
        """Complete what the folder has in other formats, unless the disk is in trouble."""
        if self.error is None:
            for failure in convert(self.output):
                self.output.report(failure)
                self.on_notice(f"{failure.kind}: {failure.message}")

    def _write_lists(self) -> None:
        self._on_disk(lambda: self.output.write_lists(self.summary()))

    def _write_last_lists(self) -> None:
        try:
            self._write_lists()
        except BlockedError as error:
            raise UsageError(f"{error}: free space and run again") from error
        except UnwritableError as error:
            raise UsageError(f"{error}; the picks are whole") from error
