"""What a worker does: it holds one loaded model, and picks and commits the micrographs that it is
given.
"""

import asyncio
import errno
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.cluster.watchdog import Watchdog
from gtpick_rt.detection.specimen import Contrast
from gtpick_rt.errors import GtpickError, text_of
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.output.holders import holder
from gtpick_rt.output.layout import lock_path
from gtpick_rt.output.pick_files import BlockedError, PickFiles
from gtpick_rt.output.summary import Settings
from gtpick_rt.pipeline.inferring import SharedInferring
from gtpick_rt.pipeline.stages import Stages
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.records import Failure, Record

THREADS = 2
"""Of a worker whose cores run the network: while one thread waits for it, the other reads or
writes."""
CORES = "GTPICK_CORES"
"""Environment variable with the cores of a worker that shares its machine with others, with
commas."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """All that a worker must know to pick as the others do; paths are absolute, and the same on
    every machine.
    """

    out: Path
    holder: str
    """The run that holds the folder, by its lock: others write nothing."""
    settings: Settings
    conversion: Conversion
    contrast: Contrast
    model: str | None
    backend: str
    gpu: bool
    """Whether a worker that finds no GPU is of no use."""
    overlays: bool
    deadline_s: float
    """Within which a worker must be through with a micrograph."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a micrograph in a worker; a few hundred bytes."""

    record: Record
    worker: str
    backend: str
    seconds: dict[str, float] = field(default_factory=dict)
    """Busy time of each stage."""
    errno: int | None = None
    """What the operating system said, where it was the cause of a failure."""
    changed: bool = False
    """The file was written to while it was read; nothing was committed."""


@dataclass(frozen=True)
class Unfit:
    """The worker cannot pick anything: its model, device or library fails."""

    worker: str
    address: str
    reason: str
    at_once: bool
    """Whether that was so before it had seen the micrograph."""


@dataclass(frozen=True)
class Blocked:
    """Nothing can be written to the output folder at the moment."""

    reason: str


class Session(WorkerPlugin):
    """Loads the model once in each worker, also in those that come later or come back.

    Its name is another in each run, since several may use the workers of one scheduler.
    """

    def __init__(self, options: SessionOptions) -> None:
        self.name, self.options = f"gtpick-{secrets.token_hex(8)}", options

    async def setup(self, worker: Any) -> None:
        """Load the model; what stands in the way is kept, for who sends the first micrograph."""
        self.worker, self.address, self.problem = str(worker.name), str(worker.address), ""
        self.watchdog, self._opened = Watchdog(self.options.deadline_s), ExitStack()
        if CORES in os.environ:
            _keep_to([int(core) for core in os.environ[CORES].split(",")])
        try:
            self.stages = await asyncio.to_thread(self._load)  # meanwhile the worker shows that it lives
            self.inferring = SharedInferring(self.stages, self.options.deadline_s)
            self._opened.callback(self.inferring.close)
        except Exception as error:
            self.problem = text_of(error)

    async def teardown(self, worker: Any) -> None:
        """Close the model and end the thread that serves it, when the run or the worker ends."""
        await asyncio.to_thread(self._opened.close)

    def _load(self) -> Stages:
        options = self.options
        picker = open_picker(
            options.settings.diameter_A, contrast=options.contrast, model=options.model, backend=options.backend
        )
        self._opened.enter_context(picker)
        if picker.model_sha256 != options.settings.model_sha256:
            raise GtpickError(f"the model {picker.spec.name} of this worker is another file; install the same version")
        if options.gpu and picker.backend.on_cpu:
            raise GtpickError("no GPU can be used here, see gtpick-rt doctor; leave it out of --gpus")
        files = PickFiles(options.out, options.settings, options.conversion, self._is_held)
        return Stages(picker, files, options.overlays)

    def _is_held(self) -> bool:
        return holder(lock_path(self.options.out)) == self.options.holder

    def pick(self, job: Job) -> Outcome | Unfit | Blocked:
        """Pick one micrograph and commit what is found."""
        if self.problem:
            return Unfit(self.worker, self.address, self.problem, at_once=True)
        item = self.stages.read(job)
        try:
            self.inferring.infer(item)
        except GtpickError as error:  # of the device or its library: this process can do nothing more with them
            self.problem = text_of(error)
            return Unfit(self.worker, self.address, self.problem, at_once=False)
        try:
            record = self.stages.write(item)
        except BlockedError as error:
            return Blocked(text_of(error))
        if isinstance(record, Failure) and item.errno == errno.ENOENT:
            told = f"{record.message}; so says worker {self.worker}: all machines must see the same paths"
            record = replace(record, message=told)
        return Outcome(
            record=record,
            worker=self.worker,
            backend=self.stages.picker.backend.name,
            seconds=item.seconds,
            errno=item.errno,
            changed=item.changed,
        )


def _keep_to(cores: Sequence[int]) -> None:
    """Run all threads of this process, and those that they start, on these cores."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)


def pick_one(name: str, job: Job) -> Outcome | Unfit | Blocked:
    """Pick one micrograph in the worker in which this is called, which has a session of this name.

    Raises UsageError when another run took the folder.
    """
    session = get_worker().plugins[name]
    assert isinstance(session, Session)
    with session.watchdog.watching():
        return session.pick(job)
