"""A run whose network adapts itself: before anything is picked or, where micrographs arrive, beside
picking; then all is picked once more with what was learned.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.sampling import spread
from gtpick_rt.arrivals.source import Arrival, Source
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.models.files import DEFAULT_MODEL
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import adapted_folder, star_path
from gtpick_rt.output.summary import Outcome
from gtpick_rt.picking.adapting import MICROGRAPHS, Adaptation, outcome_in, weights_of
from gtpick_rt.picking.excluding import excluding_as
from gtpick_rt.picking.request import Listeners, Request, ignore
from gtpick_rt.picking.work import picked_jobs
from gtpick_rt.records import Failure, counted


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


class Adapting:
    """A source whose first micrographs teach the network, while all are picked.

    When there is an adapted model the source ends early, and `adapted` is True: all is to be picked
    anew with that model. `close` ends the learning.

    Args:
        source: brings the micrographs.
        learn: begins to learn from some of them, if it can; None where nothing is to be learned.
        picked: brings those that an earlier run has picked.
        told: is told what it comes to.
        lost: brings what is to be told of micrographs that cannot be picked once more.
    """

    def __init__(
        self,
        source: Source,
        learn: Callable[[Sequence[Job]], Adaptation | None] | None,
        picked: Callable[[], Iterable[Job]],
        told: Callable[[Outcome], None],
        lost: Callable[[], Iterable[Failure]],
    ) -> None:
        self._source, self._learn, self._picked, self._told, self._lost = source, learn, picked, told, lost
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done
        self._learning: Adaptation | None = None
        self.adapted = False

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet."""
        return self._source.backlog

    def __iter__(self) -> Iterator[Arrival | None]:
        yield from self._lost()
        first = dict.fromkeys(islice(self._picked(), MICROGRAPHS) if self._learn else ())  # in order, each once
        for arrival in self._source:
            yield arrival
            if isinstance(arrival, Job) and len(first) < MICROGRAPHS:
                first[arrival] = None
            if self._learn and len(first) == MICROGRAPHS:
                self._learning, self._learn = self._learn(list(first)), None
            found = self._learning.outcome if self._learning else None
            if found is not None:
                self.close()
                self._told(found)
                self.adapted = found.model is not None
                if self.adapted:
                    return
        if self._learning or self._learn:
            self.close()
            self._told(Outcome(message="the run ended before it had learned; the same command learns in the next"))

    def close(self) -> None:
        """End the learning, if it goes on."""
        if self._learning is not None:
            self._learning.close()
            self._learning = None


def adapted_first(request: Request, output: OutputFolder, listeners: Listeners, stop: threading.Event) -> Request:
    """Let the network adapt itself before anything is picked, where the micrographs are there and
    no earlier run has done so, or by force; the request that picks with what came of it.

    Raises UsageError where an earlier run has adapted another network than the one that is named.
    """
    kept = adapted_folder(request.out)
    for left in [kept] if request.force else filter(Path.is_dir, kept.glob("*")):  # these by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    output.adaptation = outcome_in(request.out)
    if output.adaptation is not None and output.adaptation.model is not None:
        _same_start(request, kept / output.adaptation.model)
    if output.adaptation is None and request.watching is None:
        there = find_jobs(request.inputs, request.recursive, request.names).jobs
        jobs = list(islice(spread(there), MICROGRAPHS))
        listeners.notice(
            f"adapting the network to {counted(len(jobs), 'micrograph')}, for {request.adapt_minutes:g} min at most"
        )
        on_step = partial(listeners.building, "adapting")
        learning = _learn(jobs, request, request.diameter_A, output, listeners, on_step, beside=False)
        if learning is not None:
            with closing(learning):
                _tell(learning.wait(stop), output, listeners)
    return with_adapted(request, output)


def _same_start(request: Request, adapted: Path) -> None:
    if request.model is None:
        return
    weights = weights_of(request.model)
    named = f"{DEFAULT_MODEL}.safetensors " if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
    made_of = read_spec(adapted).told("adapted_from") or "other weights"
    if named not in made_of:
        raise UsageError(
            f"{request.out}: its network was adapted from {made_of}, and --model {request.model} is another: go on "
            "without --model; or with --force, which adapts this one and picks all anew; or choose another --out"
        )


def _learn(
    jobs: Sequence[Job],
    request: Request,
    diameter_A: float | None,
    output: OutputFolder,
    listeners: Listeners,
    on_step: Callable[[int, int], None],
    *,
    beside: bool,
) -> Adaptation | None:
    """Begin to learn; None where that cannot be, which is told: the general network picks then."""
    output.log(state="adapting", micrographs=len(jobs))
    try:
        return Adaptation(
            request.out,
            jobs,
            diameter_A,
            request.adapt_minutes,
            on_step,
            beside=beside,
            pixel_size_A=request.pixel_size_A,
            weights=weights_of(request.model),
        )
    except (OSError, ValueError) as error:
        _tell(Outcome(message=f"learning cannot begin ({error}); the next run tries again"), output, listeners)
        return None


def _tell(found: Outcome | None, output: OutputFolder, listeners: Listeners) -> None:
    """Say what an adaptation has come to, log it, and let the summary tell it."""
    if found is None:
        return
    output.adaptation = found
    listeners.notice(found.told)
    output.log(state="adapted" if found.model else "not adapted", message=found.message)


def _lost(output: OutputFolder) -> Iterator[Failure]:
    """The micrographs that were picked otherwise, and are not there any more to be picked anew."""
    for record in output.records(otherwise=True):
        if _is_gone(record.path):
            star = star_path(output.path, PurePosixPath(record.stem))
            message = (
                f"{record.path}: is not there any more to be picked anew; {star} keeps its picks of before, which are "
                "in no list now; put the micrograph back, and it is picked"
            )
            yield Failure(stem=record.stem, path=record.path, kind="UnreadableError", message=message)


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - of text, since there are many
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # as of a file server that is away: picking it will tell
        return False
    return False


def adapting_from(
    source: Source, request: Request, picker: Picker, output: OutputFolder, listeners: Listeners
) -> Adapting:
    """A source whose first micrographs teach the network, where that is asked for and not done."""

    def learn(jobs: Sequence[Job]) -> Adaptation | None:
        listeners.notice(f"adapting the network to the first {counted(len(jobs), 'micrograph')}, beside picking")
        return _learn(jobs, request, picker.diameter_A, output, listeners, ignore, beside=True)

    renewed = output.previous is None and not request.force
    wanted = request.adapt and request.watching is not None and outcome_in(request.out) is None
    return Adapting(
        source,
        learn if wanted else None,
        partial(picked_jobs, output),
        partial(_tell, output=output, listeners=listeners),
        partial(_lost, output) if request.adapt or renewed else list,
    )
