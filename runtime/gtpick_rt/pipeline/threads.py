"""Pick many micrographs in this process: the one module that owns threads.

    arrivals   →   reading threads   →   calling thread   →   writing thread
    thread         read, preprocess      infer                decode, commit, lists

Between them are bounded queues, so that memory does not grow with the number of micrographs. When
one thread fails, all end. No stage waits for ever for a disk or a device that does not answer.
"""

import errno
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import Source
from gtpick_rt.backends.cores import usable_cores
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.detection.exclusion import Exclusion
from gtpick_rt.detection.picker import BATCH_TILES, Picker
from gtpick_rt.errors import BackendError, HungError, UsageError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import ModelRecord, Parameters, Settings, Summary
from gtpick_rt.pipeline.bookkeeping import CHANGED_S, DEADLINE_S, TRANSIENT, Bookkeeping, Listeners
from gtpick_rt.pipeline.ordering import InOrder
from gtpick_rt.pipeline.queues import BoundedQueue, ConsumerGoneError
from gtpick_rt.pipeline.stages import STAGES, Item, Stages, text_of
from gtpick_rt.records import Failure

_AHEAD = 2
"""Items that may wait between two threads."""
_TRIES_S = (0.5, 2.0)
"""Pauses between attempts to read when a file system fails."""
_MOST_HANGING = 3
"""Micrographs in a row that may hang in reading before the run gives up: then it is the disk."""
_MOST_READERS = 8
_TOGETHER = BATCH_TILES
"""Tiles from which no further micrograph joins those that are shown to the network together."""


def settings_of(
    picker: Picker,
    threshold: float | None = None,
    pixel_size_A: float | None = None,
    exclusion: Exclusion = Exclusion(),  # noqa: B008 - it is frozen
) -> Settings:
    """What decides which picks a run makes; `threshold` is by default the picker's.

    Raises UsageError when the threshold is below the scores that the model keeps.
    """
    spec = picker.spec
    threshold = picker.threshold if threshold is None else threshold
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
        **vars(exclusion),
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
    listeners: Listeners | None = None,
    deadline_s: float = DEADLINE_S,
) -> Summary:
    """Pick what the source brings and write its outputs, `autopick.star` and `summary.json`.

    An error in one micrograph is recorded and the run goes on; while the disk is full it waits.
    However the run ends, what is done is committed and the two files that list it are written.

    Args:
        source: brings the micrographs.
        picker: finds the particles.
        output: the folder that takes them.
        settings: from `settings_of`.
        overlays: also draw OUT/overlays/<stem>.png.
        formats: also write these, of `formats.writing`, and those that the folder has already.
        command: the command line, for the summary.
        parameters: every other setting in force, for the summary.
        stop: once set, what is in inference is finished and nothing else is begun.
        listeners: are told of what happens.
        deadline_s: within which every stage must be through with a micrograph.

    Raises:
        UsageError: `output` holds picks of other settings or was removed, the disk was full when
            the run was stopped, or a disk or the backend failed or hangs.

    """
    head = begin(picker, output, settings, formats, command, parameters, picker.backend.name)
    bookkeeping = Bookkeeping(
        source, output, lambda: head, listeners or Listeners(), stop or threading.Event(), deadline_s
    )
    _Pipeline(bookkeeping, Stages(picker, output.files, overlays)).go()
    return bookkeeping.summary()


def begin(
    picker: Picker,
    output: OutputFolder,
    settings: Settings,
    formats: Sequence[str],
    command: Sequence[str],
    parameters: Parameters | None,
    backend: str,
) -> Summary:
    """Begin with the output folder, wherever the micrographs are picked; gives the summary of what
    is not done yet.
    """
    output.begin(settings, formats)
    output.log(state="begun", settings=vars(settings), backend=backend)
    spec = picker.spec
    return Summary(
        command=list(command),
        parameters={**(parameters or {}), "threshold": settings.threshold},
        model=ModelRecord(name=spec.name, version=spec.version, sha256=picker.model_sha256, floor=spec.floor),
        backend=backend,
        seconds=0.0,
        stage_seconds=dict.fromkeys(STAGES, 0.0),
        picked=0,
        totals=output.totals,
    )


class _Pipeline:
    """The threads of one run."""

    def __init__(self, bookkeeping: Bookkeeping, stages: Stages) -> None:
        self.bookkeeping, self.stages, self.stop = bookkeeping, stages, bookkeeping.stop
        # Where the processor computes the network, more readers would only be in its way.
        readers = 1 if stages.picker.backend.on_cpu else min(usable_cores(), _MOST_READERS)
        self.reading = [DeadlineThread(f"gtpick-reading-{number}") for number in range(readers)]
        self.inferring = DeadlineThread("gtpick-inferring")
        self.arrived: BoundedQueue[tuple[int, Job | Failure]] = BoundedQueue(_AHEAD)
        self.read: BoundedQueue[Item | Failure] = BoundedQueue(_AHEAD * readers, producers=readers)
        self.detected: BoundedQueue[Item | Failure] = BoundedQueue(_AHEAD)
        self.order = InOrder()
        self.error: BaseException | None = None
        self.hanging = 0

    def go(self) -> None:
        """Run to the end of the source, to `stop`, or to the first error."""
        bodies: list[tuple[Callable[[], None], BoundedQueue[Any] | None, BoundedQueue[Any] | None]] = [
            (self._arrive, None, self.arrived),
            *((partial(self._read, reader), self.arrived, self.read) for reader in self.reading),
            (self._write, self.detected, None),
        ]
        threads = [threading.Thread(target=self._stage, args=body, daemon=True) for body in bodies]
        for thread in threads:
            thread.start()
        self._stage(self._detect, self.read, self.detected)
        for thread in threads:
            thread.join()
        try:
            if self.error is None:
                self._stage(self.bookkeeping.convert, None, None)
            self.bookkeeping.end()
        finally:
            for each in (*self.reading, self.inferring):
                each.close()
            if self.error is not None:
                raise self.error

    def _stage(
        self, body: Callable[[], None], upstream: BoundedQueue[Any] | None, downstream: BoundedQueue[Any] | None
    ) -> None:
        """Run one stage to its end.

        After an error what is before it is given up, and what is after it committed.
        """
        try:
            body()
        except ConsumerGoneError:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.stop.set()
        finally:
            if upstream is not None:
                upstream.abandon()
            if downstream is not None:
                downstream.end()

    def _arrive(self) -> None:
        numbers = count()
        for arrival in self.bookkeeping.arrivals():
            if arrival is not None:
                self.arrived.put((next(numbers), arrival))

    def _read(self, reader: DeadlineThread) -> None:
        for arrival in self.arrived:
            if arrival is not None:
                self._read_in_order(reader, *arrival)

    def _read_in_order(self, reader: DeadlineThread, number: int, arrival: Job | Failure) -> None:
        read: Item | Failure | None = None
        try:
            if isinstance(arrival, Failure):
                read = arrival
            elif not self.stop.is_set():
                item = self._read_with_retries(reader, arrival)
                read = None if self._is_left(item) else item
        finally:
            with self.order.turn(number):
                if read is not None:
                    self.read.put(read)

    def _read_with_retries(self, reader: DeadlineThread, job: Job) -> Item:
        """Read; and read again after pauses when the file system fails."""
        for pause_s in (*_TRIES_S, 0.0):
            try:
                item = reader.call(partial(self.stages.read, job), self.bookkeeping.deadline_s)
                self.hanging = 0
            except TimeoutError:
                self.hanging += 1
                if self.hanging > _MOST_HANGING:
                    raise UsageError(f"{job.path}: the disk does not answer; the run ends, run it again") from None
                within = f"{self.bookkeeping.deadline_s:g} s"
                item = Item(job, error=HungError(f"{job.path}: reading did not end in {within}; copy it"))
            if item.errno not in TRANSIENT or self.stop.wait(pause_s):
                break
        return item

    def _is_left(self, item: Item) -> bool:
        """Whether a micrograph goes no further now: it is gone, or will come again."""
        if item.errno == errno.ENOENT and self.bookkeeping.source.live:
            self.bookkeeping.gone(item.job)
            return True
        if item.changed:
            return self.bookkeeping.comes_again(item.job, text_of(item.error), CHANGED_S)
        return item.errno in TRANSIENT and self.bookkeeping.comes_again(item.job, text_of(item.error))

    def _detect(self) -> None:
        for first in self.read:
            if first is None:
                continue
            together = [first]
            while sum(map(self._tiles, together)) < _TOGETHER and (more := self.read.get_nowait()) is not None:
                together.append(more)
            self._infer([item for item in together if isinstance(item, Item)])
            for item in together:
                if isinstance(item, Failure) or item.is_decided:
                    self.detected.put(item)

    def _tiles(self, item: Item | Failure) -> int:
        return self.stages.tiles(item) if isinstance(item, Item) else 0

    def _infer(self, items: list[Item]) -> None:
        if self.stop.is_set():
            return
        try:
            self.inferring.call(partial(self.stages.detect, *items), self.bookkeeping.deadline_s)
        except TimeoutError:
            raise BackendError(
                f"{items[0].job.path}: inference did not end in {self.bookkeeping.deadline_s:g} s; "
                "the device or its driver hangs"
            ) from None

    def _write(self) -> None:
        for item in self.detected:
            if isinstance(item, Failure):
                self.bookkeeping.report(item)
            elif item is not None:
                self._commit(item)
            self.bookkeeping.write_lists_when_due()

    def _commit(self, item: Item) -> None:
        record = self.bookkeeping.when_possible(partial(self.stages.write, item))
        failed = isinstance(record, Failure)
        if failed and item.errno in TRANSIENT and self.bookkeeping.comes_again(item.job, text_of(item.error)):
            return
        self.bookkeeping.settle(item.job, record, item.seconds, lag_s=item.lag_s)
