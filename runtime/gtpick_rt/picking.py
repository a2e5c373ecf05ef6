"""Pick many micrographs into an output folder: what the commands run, and `gtpick_rt.pick`."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from gtpick_rt.arrivals.folders import DEFAULT_EXCLUDES, DEFAULT_NAMES, Names
from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.listed import Listed, unfinished
from gtpick_rt.arrivals.lookahead import Lookahead
from gtpick_rt.arrivals.sampling import readable, spread
from gtpick_rt.arrivals.sharding import Shard, ShardSource
from gtpick_rt.arrivals.source import DEFAULT_TIMING, Source, Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.cluster.specs import ClusterSpec, LocalGpus
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import CONTRASTS
from gtpick_rt.errors import UndecidedError, UsageError
from gtpick_rt.models.files import shipped_models
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import jobs_folder
from gtpick_rt.output.summary import Parameters, Settings, Summary
from gtpick_rt.pipeline import bookkeeping
from gtpick_rt.pipeline.threads import run, settings_of
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.records import Record


@dataclass(frozen=True, kw_only=True)
class Watching:
    """How micrographs that arrive are waited for."""

    timing: Timing = DEFAULT_TIMING
    stop_after_idle_s: float | None = None
    """End when nothing has come for so long; None waits for ever."""
    until: int | None = None
    """End after so many micrographs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to pick, with what and where to; see `pick`. Raises UsageError for formats that are not known."""

    inputs: tuple[str, ...]
    out: Path
    diameter_A: float | None = None
    pixel_size_A: float | None = None
    model: str | None = None
    backend: str = "auto"
    threshold: float | None = None
    formats: tuple[str, ...] = ()
    recursive: bool = False
    names: Names = DEFAULT_NAMES
    watching: Watching | None = None
    """None takes the micrographs that are there now."""
    overlays: bool = False
    force: bool = False
    cluster: ClusterSpec | None = None
    """Where the workers are that pick; None picks in this process."""
    shard: str | None = None
    """The part to pick, beside others: "3/8"."""

    def __post_init__(self) -> None:
        Conversion(formats=self.formats)  # refuses formats that are not known
        if self.shard is not None and (self.force or self.cluster is not None):
            raise UsageError("--shard goes without --force and without workers; to pick anew choose another --out")


@dataclass(frozen=True, kw_only=True)
class Work:
    """The micrographs of a run."""

    source: Source
    look: Callable[[], Iterator[Job]]
    """Brings some of them to be looked at before the run."""
    endless: bool
    """Whether others may come at any time."""
    total: int | None
    """How many there are to pick, if that is known."""
    before: int
    """How many an earlier run has picked."""
    excluded: Callable[[], int] = lambda: 0
    """How many files were left out by their names, so far."""


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Listeners(bookkeeping.Listeners):
    """What is called from the first preparations on, in any of the run's threads."""

    building: Callable[[str, int, int], None] = _ignore
    """While an engine is built: with a phase, its steps that are done and how many it has."""
    begun: Callable[[Picker, Work, int], None] = _ignore
    """Before the first micrograph is picked: with the picker, the work, and how many are picked already."""
    notice: Callable[[str], None] = logging.getLogger("gtpick_rt").warning


def pick(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    diameter_A: float | None = None,
    pixel_size_A: float | None = None,
    model: str | None = None,
    backend: str = "auto",
    threshold: float | None = None,
    formats: Iterable[str] = (),
    recursive: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = DEFAULT_EXCLUDES,
    watch: bool = False,
    settle_s: float = DEFAULT_TIMING.settle_s,
    max_wait_s: float = DEFAULT_TIMING.max_wait_s,
    stop_after_idle_s: float | None = None,
    until: int | None = None,
    overlays: bool = False,
    force: bool = False,
    cluster: ClusterSpec | None = None,
    shard: str | None = None,
    stop: threading.Event | None = None,
    on_done: Callable[[Record], None] = _ignore,
) -> Summary:
    """Pick the particles on micrographs and write the picks to a folder, as `gtpick-rt pick` does.

    A folder that holds picks of the same settings is gone on with. A micrograph that cannot be picked is named in the
    summary and does not end the run.

    Args:
        inputs: folders, files, patterns and micrographs STAR files; one or several.
        out: folder of the picks.
        diameter_A: the particles' longest extent in Å; None measures it on the first micrographs.
        pixel_size_A: Å per pixel, instead of what STAR files and image headers say.
        model: name of a shipped model, or path of an ONNX file; None is the default model.
        backend: what runs the network: auto, cpu, openvino, cuda, tensorrt or tensorrt-rtx.
        threshold: lowest score of a pick, 0 to 1; None is that of the picks in `out`, else the model's.
        formats: other formats than STAR: box, cbox, csv, json, cs, topaz.
        recursive: look in subfolders too.
        include: globs; where there are any, a file must match one of them.
        exclude: globs; files that match one are left out.
        watch: go on picking micrographs as they arrive.
        settle_s: watching: pick a file that is whole and unchanged for so long.
        max_wait_s: watching: report a file that is not whole after so long.
        stop_after_idle_s: watching: end when nothing has come for so long.
        until: watching: end after so many micrographs.
        overlays: also draw each micrograph with its picks.
        force: replace picks of other settings.
        cluster: where the workers are that pick, of `gtpick_rt.cluster.specs`; None picks in this process.
        shard: pick a part, "3/8" for the third of eight, beside others who pick into the same folder.
        stop: once set, the micrograph in hand is finished and the run ends.
        on_done: called with the record of each micrograph, in another thread.

    Returns:
        What was done: see `summary.totals`, of which `failed` counts the micrographs that could not be picked.

    Raises:
        UsageError: nothing can be picked so; the message says what to do instead.
        ModelError, BackendError: the model cannot be used.

    """
    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    watching = Watching(
        timing=Timing(settle_s=settle_s, max_wait_s=max_wait_s), stop_after_idle_s=stop_after_idle_s, until=until
    )
    request = Request(
        inputs=tuple(os.fspath(each) for each in several),
        out=Path(out),
        diameter_A=diameter_A,
        pixel_size_A=pixel_size_A,
        model=model,
        backend=backend,
        threshold=threshold,
        formats=tuple(formats),
        recursive=recursive,
        names=Names(tuple(include), tuple(exclude)),
        watching=watching if watch else None,
        overlays=overlays,
        force=force,
        cluster=cluster,
        shard=shard,
    )
    return fulfil(request, Listeners(done=on_done), stop or threading.Event())


def fulfil(request: Request, listeners: Listeners, stop: threading.Event, command: Sequence[str] = ()) -> Summary:
    """Pick as requested, until all is done or `stop` is set; `command` is for the summary. Raises as `pick` does."""
    with _output(request) as output:
        if request.watching is None:
            work = _listed(request, output, stop)
        else:
            work = _watched(request, request.watching, output, stop)
        previous = output.previous
        picker = _open_picker(request, previous, work, listeners, stop)
        settings = settings_of(picker, _threshold(request, previous), request.pixel_size_A)
        agreed = output.agree(settings)
        if agreed != settings:
            picker = _open_picker(request, agreed, work, listeners, stop)
            settings = settings_of(picker, _threshold(request, agreed), request.pixel_size_A)
        listeners.begun(picker, work, work.before if settings == previous else 0)
        common: dict[str, Any] = {
            "overlays": request.overlays,
            "formats": request.formats,
            "command": command,
            "parameters": _parameters(request, picker),
            "stop": stop,
            "listeners": listeners,
        }
        if request.cluster is None:
            return run(work.source, picker, output, settings, **common)
        return _run_in_workers(request.cluster, request, work.source, picker, output, settings, **common)


def _run_in_workers(cluster: ClusterSpec, request: Request, *arguments: Any, **common: Any) -> Summary:
    try:
        from gtpick_rt.cluster import driver, starting
    except ImportError as error:
        raise UsageError(
            f"several processes need Dask ({error}): install the extra cluster: pip install '.[cluster]' in the clone"
        ) from error
    model = request.model
    if model is not None and model not in shipped_models():
        model = str(Path(model).absolute())
    with starting.workers_at(cluster, jobs_folder(request.out)) as pool:
        gpu = isinstance(cluster, LocalGpus)
        return driver.run(pool, *arguments, model=model, backend=request.backend, gpu=gpu, **common)


def _output(request: Request) -> OutputFolder:
    if request.shard is None:
        return OutputFolder(request.out, request.force)
    from gtpick_rt.output.shards import ShardFolder

    return ShardFolder(request.out, Shard.parse(request.shard))


def _listed(request: Request, output: OutputFolder, stop: threading.Event) -> Work:
    """The micrographs that are there now."""
    found = find_jobs(request.inputs, request.recursive, request.names)
    todo = unfinished(found.jobs, output.finished)
    jobs = [job for job in todo if output.holds(str(job.stem))]
    return Work(
        source=Listed(jobs, found.unlisted),
        look=lambda: takewhile(lambda _: not stop.is_set(), spread(todo)),
        endless=False,
        total=len(jobs) + len(found.unlisted),
        before=len(found.jobs) - len(todo),
        excluded=lambda: found.excluded,
    )


def _watched(request: Request, watching: Watching, output: OutputFolder, stop: threading.Event) -> Work:
    """The micrographs that are there or will come."""
    ends = watching.stop_after_idle_s is not None or watching.until is not None or "-" in request.inputs
    finished = output.finished
    source = Watched(
        request.inputs,
        recursive=request.recursive,
        names=request.names,
        timing=watching.timing,
        finished=finished,
        stop_after_idle_s=watching.stop_after_idle_s,
        until=watching.until,
    )
    ahead = Lookahead(source, stop)
    return Work(
        source=ShardSource(ahead, output.holds, output.shares),
        look=ahead.look,
        endless=not ends,
        total=watching.until if request.shard is None else None,
        before=len(finished),
        excluded=lambda: source.excluded,
    )


def _open_picker(
    request: Request, previous: Settings | None, work: Work, listeners: Listeners, stop: threading.Event
) -> Picker:
    """Load the model; what an earlier run in this folder has measured is not measured again."""
    backend = request.backend if request.cluster is None else "cpu"  # the GPUs are the workers'
    if previous is not None:
        diameter_A = previous.diameter_A if request.diameter_A is None else request.diameter_A
        (contrast,) = (each for each in CONTRASTS if each == previous.contrast)
        return open_picker(
            diameter_A,
            contrast=contrast,
            model=request.model,
            backend=backend,
            on_build=listeners.building,
        )
    while True:
        try:
            micrographs = readable(work.look(), request.pixel_size_A)
            return open_picker(
                request.diameter_A,
                micrographs=micrographs,
                model=request.model,
                backend=backend,
                on_build=listeners.building,
            )
        except UndecidedError as error:
            if stop.is_set() or not work.endless:
                raise
            listeners.notice(f"{error}; or wait: the next micrographs are looked at as they come")


def _threshold(request: Request, previous: Settings | None) -> float | None:
    """As asked for, or as for the picks that are there; None is the model's own."""
    return previous.threshold if request.threshold is None and previous else request.threshold


def _parameters(request: Request, picker: Picker) -> Parameters:
    """Every setting in force."""
    found = picker.survey
    low, high = (found and found.quartiles_A) or (None, None)
    return {
        "out": str(request.out),
        "diameter_A": picker.diameter_A,
        "diameter_auto": request.diameter_A is None,
        "diameter_lower_quartile_A": low,
        "diameter_upper_quartile_A": high,
        "contrast": picker.contrast,
        "surveyed_micrographs": found.micrographs if found else 0,
        "pixel_size_A": request.pixel_size_A,
        "model": picker.spec.name,
        "backend": request.backend,
        "overlays": request.overlays,
        "force": request.force,
    }
