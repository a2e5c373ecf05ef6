"""Pick many micrographs in this process, in threads.

    arrivals   →   reading threads   →   calling thread   →   writing threads
    thread         read, preprocess      infer                decode, commit, lists

Between them are bounded queues, so that memory does not grow with the number of micrographs. When
one thread fails, all end. No stage waits for ever for a disk or a device that does not answer.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gtpick_rt.arrivals.source import Source
from gtpick_rt.backends.cores import usable_cores
from gtpick_rt.detection.exclusion import Exclusion
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import ModelRecord, Parameters, Settings, Summary
from gtpick_rt.pipeline.bookkeeping import DEADLINE_S, Bookkeeping, Listeners
from gtpick_rt.pipeline.inferring import Inferring
from gtpick_rt.pipeline.queues import BoundedQueue, ConsumerGoneError
from gtpick_rt.pipeline.reading import Reading
from gtpick_rt.pipeline.stages import STAGES, Stages
from gtpick_rt.pipeline.writing import Writing

MOST_READERS = 12
"""Of one GPU, which is not faster than what so many bring."""
_MOST_WRITERS, _CORES_PER_WRITER = 8, 2


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
        self.bookkeeping, self.stop = bookkeeping, bookkeeping.stop
        # Where the processor computes the network, more threads would only be in its way.
        cores = 1 if stages.picker.backend.on_cpu else usable_cores()
        self.reading = Reading(stages, bookkeeping, min(cores, MOST_READERS))
        self.inferring = Inferring(stages, self.stop, bookkeeping.deadline_s)
        self.writing = Writing(stages, bookkeeping, min(-(-cores // _CORES_PER_WRITER), _MOST_WRITERS))
        self.error: BaseException | None = None

    def go(self) -> None:
        """Run to the end of the source, to `stop`, or to the first error."""
        reading, writing = self.reading, self.writing
        bodies: list[tuple[Callable[[], None], BoundedQueue[Any] | None, BoundedQueue[Any] | None]] = [
            (reading.arrive, None, reading.arrived),
            *((partial(reading.read, thread), reading.arrived, reading.done) for thread in reading.threads),
            *((partial(writing.write, thread), writing.detected, None) for thread in writing.threads),
        ]
        threads = [threading.Thread(target=self._stage, args=body, daemon=True) for body in bodies]
        for each in threads:
            each.start()
        self._stage(partial(self.inferring.run, reading.done, writing.put), reading.done, writing.detected)
        for each in threads:
            each.join()
        try:
            if self.error is None:
                self._stage(self.bookkeeping.convert, None, None)
            self.bookkeeping.end()
        finally:
            self.inferring.close()
            for thread in (*reading.threads, *writing.threads):
                thread.close()
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
