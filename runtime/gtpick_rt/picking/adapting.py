"""A network that adapts itself to the micrographs of a run, in a process of its own, without
labels.

The process is `gtpick-rt adapt`. What it has come to lies in the output folder: the adapted model,
or why there is none. So a run that goes on after a stop, or a kill, does not begin once more.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.sampling import spread
from gtpick_rt.arrivals.source import Arrival, Source
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.models.files import HALF_SUFFIX
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import adapted_folder
from gtpick_rt.output.summary import Outcome
from gtpick_rt.picking.excluding import excluding_as
from gtpick_rt.picking.request import Listeners, Request, ignore
from gtpick_rt.records import MicrographRecord

MICROGRAPHS = 12
"""To learn from; watching, those that come first."""
PROGRAM = (sys.executable, "-m", "gtpick_rt", "adapt")
"""What learns."""
_NAME = "adapted"
_NEEDED = ("torch", "safetensors", "onnx", "onnxscript")
_REFUSED = 1
"""Exit code of what says why it ends."""
_LOWEST = 19
"""Of the priorities of a process: picking comes first."""
_TICK_S = 0.2
_STEP = re.compile(r"adapting, step (\d+) of (\d+)")


def need_training() -> None:
    """Raise UsageError where an adaptation cannot run, before anything is picked."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--adapt: {missing[0]} is not installed: install the extra train: pip install '.[cpu,train]' in the clone"
        )


def outcome_in(out: Path) -> Outcome | None:
    """What an earlier adaptation for this output folder has come to; None where there was none."""
    try:
        return Outcome.of(json.loads(_outcome_path(out).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def with_adapted(request: Request, output: OutputFolder) -> Request:
    """The request, to be picked with the model that has adapted itself for its output folder, where
    there is one, and particles of the size that it has learned; what another model has picked there
    is to be picked once more.
    """
    found = output.adaptation
    if found is None or found.model is None:
        return request
    model, before = adapted_folder(request.out) / found.model, output.previous
    if before is not None and before.model_sha256 != hashlib.sha256(model.read_bytes()).hexdigest():
        output.renew()
        request = replace(excluding_as(request, before), diameter_A=before.diameter_A)
    if before is None and request.diameter_A is None:
        learned = read_spec(model).provenance.get("diameter_A")
        request = replace(request, diameter_A=float(learned) if learned else None)
    return replace(request, model=str(model))


def _outcome_path(out: Path) -> Path:
    return adapted_folder(out) / "outcome.json"


class Adaptation:
    """The process that learns from some micrographs; `close` ends it.

    Args:
        out: the output folder.
        jobs: the micrographs.
        diameter_A: of the particles, in Å; None measures it.
        minutes: to learn in.
        on_step: is told of the steps done, and of how many there will be, in another thread.
        beside: whether it gives way to what picks meanwhile, at the lowest priority.
    """

    def __init__(
        self,
        out: Path,
        jobs: Sequence[Job],
        diameter_A: float | None,
        minutes: float,
        on_step: Callable[[int, int], None],
        *,
        beside: bool,
    ) -> None:
        self._out, self._on_step = out, on_step
        adapted_folder(out).mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(dir=adapted_folder(out)))
        pixel_size_A = next((job.pixel_size_A for job in jobs if job.pixel_size_A), None)
        options = {"--diameter": diameter_A, "--minutes": minutes, "--pixel-size": pixel_size_A}
        command = [*PROGRAM, *(str(job.path) for job in jobs), "--out", str(self._scratch / f"{_NAME}.onnx")]
        command += [text for name, value in options.items() if value for text in (name, f"{value:g}")]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if beside:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOWEST)
        self._said, self._complaints = list[str](), list[str]()
        self._readers = [
            threading.Thread(target=self._follow, args=stream, daemon=True)
            for stream in ((self._process.stdout, self._said), (self._process.stderr, self._complaints))
        ]
        for reader in self._readers:
            reader.start()

    def _follow(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            step = _STEP.match(line)
            if step:
                self._on_step(int(step[1]), int(step[2]))
            elif line.strip() and not line.endswith(" ...\n"):  # that something is begun
                lines.append(line.strip())

    @property
    def outcome(self) -> Outcome | None:
        """What it has come to; None while it learns.

        It is kept in the output folder, unless the process broke: the next run begins once more
        then.
        """
        if self._process.poll() is None:
            return None
        for reader in self._readers:
            reader.join()
        if self._process.returncode == 0:
            for name in (f"{_NAME}{HALF_SUFFIX}", f"{_NAME}.onnx"):
                if (self._scratch / name).exists():
                    (self._scratch / name).replace(adapted_folder(self._out) / name)
            changes = json.loads((self._scratch / f"{_NAME}.json").read_bytes())
            found = Outcome.of({"message": "; ".join(self._said[:2]), "model": f"{_NAME}.onnx", "changes": changes})
        else:
            why = self._complaints[-1] if self._complaints else f"exit code {self._process.returncode}"
            found = Outcome(message=why.removeprefix("error: "))
        if self._process.returncode in (0, _REFUSED):
            write_atomic(_outcome_path(self._out), json.dumps(asdict(found)).encode())
        return found

    def wait(self, stop: threading.Event) -> Outcome | None:
        """Wait for what it comes to; None where `stop` was set before."""
        while not stop.is_set():
            found = self.outcome
            if found is not None:
                return found
            stop.wait(_TICK_S)
        return None

    def close(self) -> None:
        """End the process, and remove what it has not brought to an end."""
        self._process.kill()
        with self._process:  # which waits, and closes its streams
            for reader in self._readers:
                reader.join()
        shutil.rmtree(self._scratch, ignore_errors=True)


class Adapting:
    """A source whose first micrographs teach the network, while all are picked.

    When there is an adapted model the source ends early, and `adapted` is True: all is to be picked
    anew with that model. `close` ends the learning.

    Args:
        source: brings the micrographs.
        learn: begins to learn from some of them; None where nothing is to be learned.
        picked: brings those that an earlier run has picked.
        told: is told what it comes to.
    """

    def __init__(
        self,
        source: Source,
        learn: Callable[[Sequence[Job]], Adaptation] | None,
        picked: Callable[[], Iterable[Job]],
        told: Callable[[Outcome], None],
    ) -> None:
        self._source, self._learn, self._picked, self._told = source, learn, picked, told
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done
        self._learning: Adaptation | None = None
        self.adapted = False

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet."""
        return self._source.backlog

    def __iter__(self) -> Iterator[Arrival | None]:
        first = dict.fromkeys(islice(self._picked(), MICROGRAPHS) if self._learn else ())  # in order, each once
        for arrival in self._source:
            yield arrival
            if isinstance(arrival, Job) and len(first) < MICROGRAPHS:
                first[arrival] = None
            if self._learn and self._learning is None and len(first) == MICROGRAPHS:
                self._learning = self._learn(list(first))
            found = self._learning.outcome if self._learning else None
            if found is not None:
                self.close()
                self._learn = None
                self._told(found)
                self.adapted = found.model is not None
                if self.adapted:
                    return

    def close(self) -> None:
        """End the learning, if it goes on."""
        if self._learning is not None:
            self._learning.close()
            self._learning = None


def adapted_first(request: Request, output: OutputFolder, listeners: Listeners, stop: threading.Event) -> Request:
    """Let the network adapt itself before anything is picked, where the micrographs are there and
    no earlier run has done so, or by force; the request that picks with what came of it.
    """
    kept = adapted_folder(request.out)
    for left in [kept] if request.force else filter(Path.is_dir, kept.glob("*")):  # these by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    output.adaptation = outcome_in(request.out)
    if output.adaptation is None and request.watching is None:
        there = find_jobs(request.inputs, request.recursive, request.names).jobs
        jobs = list(islice(spread(there), MICROGRAPHS))
        listeners.notice(f"adapting the network to {len(jobs)} micrographs, for {request.adapt_minutes:g} min at most")
        on_step = partial(listeners.building, "adapting")
        with closing(_learn(jobs, request, request.diameter_A, output, on_step, beside=False)) as learning:
            _tell(learning.wait(stop), output, listeners)
    return with_adapted(request, output)


def _learn(
    jobs: Sequence[Job],
    request: Request,
    diameter_A: float | None,
    output: OutputFolder,
    on_step: Callable[[int, int], None],
    *,
    beside: bool,
) -> Adaptation:
    output.log(state="adapting", micrographs=len(jobs))
    return Adaptation(request.out, jobs, diameter_A, request.adapt_minutes, on_step, beside=beside)


def _tell(found: Outcome | None, output: OutputFolder, listeners: Listeners) -> None:
    """Say what an adaptation has come to, log it, and let the summary tell it."""
    if found is None:
        return
    output.adaptation = found
    listeners.notice(found.told)
    output.log(state="adapted" if found.model else "not adapted", message=found.message)


def _job_of(record: MicrographRecord) -> Job:
    return Job(Path(record.path), PurePosixPath(record.stem), record.name, pixel_size_A=record.pixel_size_A)


def adapting_from(
    source: Source, request: Request, picker: Picker, output: OutputFolder, listeners: Listeners
) -> Adapting:
    """A source whose first micrographs teach the network, where that is asked for and not done."""

    def learn(jobs: Sequence[Job]) -> Adaptation:
        listeners.notice(f"adapting the network to the first {len(jobs)} micrographs, beside picking")
        return _learn(jobs, request, picker.diameter_A, output, ignore, beside=True)

    wanted = request.adapt and request.watching is not None and outcome_in(request.out) is None
    return Adapting(
        source,
        learn if wanted else None,
        lambda: map(_job_of, output.records()),
        partial(_tell, output=output, listeners=listeners),
    )
