"""Carry out a request: open the folder, the source and the picker, and run."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from gtpick_rt.arrivals.sampling import Sample
from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.arrivals.source import Source
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.backends.support import way_to_add
from gtpick_rt.cluster.specs import ClusterSpec, LocalGpus, SlurmJobs
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import CONTRASTS, Survey, judge
from gtpick_rt.errors import UndecidedError, UsageError
from gtpick_rt.models.files import shipped_models
from gtpick_rt.output.conversion import OVERLAYS
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import jobs_folder
from gtpick_rt.output.summary import Parameters, Settings, Summary
from gtpick_rt.picking.adapting import need_training, weights_of
from gtpick_rt.picking.excluding import exclusion_of
from gtpick_rt.picking.remeasuring import remeasuring_from
from gtpick_rt.picking.request import Listeners, Request, Work
from gtpick_rt.picking.takeover import adapted_first, adapting_from, with_adapted
from gtpick_rt.picking.work import work_of
from gtpick_rt.pipeline.threads import run, settings_of
from gtpick_rt.proof.opening import open_picker

_CLOSING_S = 10.0


def fulfil(request: Request, listeners: Listeners, stop: threading.Event, command: Sequence[str] = ()) -> Summary:
    """Pick as requested, until all is done or `stop` is set.

    `command` is for the summary. Raises as `pick` does.
    """
    if request.cluster is not None:
        _need_dask(request.cluster)
    if request.adapt:
        need_training()
        weights_of(request.model)
    exclusion_of(request, None)  # what is wrong with it is told before anything takes long
    with _output(request, listeners, stop) as output:
        if request.adapt:
            request = adapted_first(request, output, listeners, stop)
        summary, adapted = _pick(request, output, listeners, stop, command)
        if adapted and not stop.is_set():
            summary, _ = _pick(with_adapted(request, output), output, listeners, stop, command)
        return summary


def _pick(
    request: Request, output: OutputFolder, listeners: Listeners, stop: threading.Event, command: Sequence[str]
) -> tuple[Summary, bool]:
    """Pick what is there or comes; and whether the network has adapted itself meanwhile, so that
    all is to be picked once more.
    """
    with ExitStack() as opened:
        work = work_of(request, output, stop, listeners.notice)
        previous = output.previous
        picker = _open_picker(request, previous, work, listeners, stop)
        opened.enter_context(_closing(picker))
        if picker.survey is not None and request.diameter_A is not None:
            _judge(picker.survey, request, output, listeners)
        settings = _settings(picker, request, previous)
        agreed = output.agree(settings)
        if agreed != settings:
            opened.close()
            picker = _open_picker(request, agreed, work, listeners, stop)
            opened.enter_context(_closing(picker))
            settings = _settings(picker, request, agreed)
        output.refuse_others(settings)
        output.rename([(str(job.stem), job.name, str(job.path)) for job in work.renamed])
        again = remeasuring_from(work.source, request, previous, picker, output, listeners.notice, stop)
        source = work.source if again is None else again
        before = work.before if settings == previous else 0
        summary, adapted = _run(request, source, work, before, picker, output, settings, listeners, stop, command)
    if again is None or again.survey is None:
        return summary, adapted
    output.hold.begin(0)
    if stop.is_set():  # what is picked is all that there will be
        output.write_lists(summary)
        return summary, False
    return _pick_anew(request, again.survey, output, listeners, stop, command)


def _pick_anew(
    request: Request,
    found: Survey,
    output: OutputFolder,
    listeners: Listeners,
    stop: threading.Event,
    command: Sequence[str],
) -> tuple[Summary, bool]:
    """Do as `_pick`, for what was found when the particles were measured again."""
    model, backend = request.model, _backend(request)
    opened = open_picker(
        found.diameter_A, contrast=found.contrast, model=model, backend=backend, on_build=listeners.building
    )
    with _closing(opened) as picker:
        picker.survey = found
        exclusion = exclusion_of(request, output.previous)
        settings = settings_of(picker, request.threshold, request.pixel_size_A, exclusion)
        output.renew()
        work = work_of(request, output, stop, listeners.notice)
        return _run(request, work.source, work, 0, picker, output, settings, listeners, stop, command)


@contextmanager
def _closing(opened: Picker) -> Iterator[Picker]:
    """Close it at the end, unless its device hangs; then the end of the process gives all back."""
    try:
        yield opened
    finally:
        thread = DeadlineThread("gtpick-closing")
        with suppress(TimeoutError):
            thread.call(opened.close, _CLOSING_S)
        thread.close()


def _run(
    request: Request,
    source: Source,
    work: Work,
    before: int,
    picker: Picker,
    output: OutputFolder,
    settings: Settings,
    listeners: Listeners,
    stop: threading.Event,
    command: Sequence[str],
) -> tuple[Summary, bool]:
    """Pick what `source` brings; and whether the network has adapted itself meanwhile."""
    listeners.begun(picker, work, before)
    common: dict[str, Any] = {
        "formats": (*request.formats, OVERLAYS) if request.overlays else request.formats,
        "command": command,
        "parameters": {**_parameters(request, picker, output.earlier), **vars(settings.exclusion)},
        "stop": stop,
        "listeners": listeners,
    }
    with closing(adapting_from(source, request, picker, output, listeners)) as adapting:
        if request.cluster is None:
            summary = run(adapting, picker, output, settings, **common)
        else:
            summary = _run_in_workers(request.cluster, request, adapting, picker, output, settings, **common)
    return summary, adapting.adapted


def _backend(request: Request) -> str:
    return request.backend if request.cluster is None else "cpu"  # the GPUs are the workers'


def _judge(survey: Survey, request: Request, output: OutputFolder, listeners: Listeners) -> None:
    """Tell what is odd about the diameter that was given, once. Raises UsageError."""
    try:
        told = judge(survey, request.force)
    except UsageError as error:
        if request.shard is None:
            raise
        raise UsageError(
            f"{error}: with shards, pick one micrograph so, without --shard, first; they go on as it was picked"
        ) from error
    if told:
        listeners.notice(f"warning: {told}")
        output.log(state="noticed", message=told)


def _need_dask(cluster: ClusterSpec) -> None:
    """Raise UsageError where Dask cannot be used, before anything is done that takes long."""
    try:
        import_module("cryptography")  # which Dask imports when it makes keys
        import_module("gtpick_rt.cluster.starting")
        if isinstance(cluster, SlurmJobs):
            import_module("gtpick_rt.cluster.slurm")
    except ImportError as error:
        raise UsageError(f"several processes need Dask ({error}): {way_to_add('cluster')}") from error
    except Exception as error:  # of its configuration, which it reads when it is imported
        raise UsageError(f"Dask cannot be used: {' '.join(str(error).split())}") from error


def _run_in_workers(cluster: ClusterSpec, request: Request, *arguments: Any, **common: Any) -> Summary:
    from gtpick_rt.cluster import driver, starting

    model = request.model
    if model is not None and model not in shipped_models():
        model = str(Path(model).absolute())
    with starting.workers_at(cluster, jobs_folder(request.out)) as pool:
        gpu = isinstance(cluster, LocalGpus)
        return driver.run(pool, *arguments, model=model, backend=request.backend, gpu=gpu, **common)


def _output(request: Request, listeners: Listeners, stop: threading.Event) -> OutputFolder:
    if request.shard is None:
        return OutputFolder(request.out, request.force)
    from gtpick_rt.output.shards import ShardFolder

    return ShardFolder(request.out, Shard.parse(request.shard), listeners.notice, stop)


def _open_picker(
    request: Request, previous: Settings | None, work: Work, listeners: Listeners, stop: threading.Event
) -> Picker:
    """Load the model; what an earlier run in this folder has measured is not measured again."""
    backend = _backend(request)
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
        sample = Sample(work.look(), request.pixel_size_A)
        try:
            return open_picker(
                request.diameter_A,
                micrographs=sample,
                model=request.model,
                backend=backend,
                on_build=listeners.building,
            )
        except UndecidedError as error:
            why = _undecided(error, sample)
            if stop.is_set() or not work.endless:
                raise UndecidedError(why) from error
            listeners.notice(f"{why}; or wait: the next micrographs are looked at as they come")


def _undecided(error: UndecidedError, sample: Sample) -> str:
    """Why nothing could be measured: what is wrong with the micrographs that were tried comes
    first, if
    that is why.
    """
    if not sample.unread:
        return str(error)
    first, count = sample.unread[0], len(sample.unread)
    rest = f" (and {count - 1} more: gtpick-rt check lists them)" if count > 1 else ""
    if not sample.read:
        return f"{first}{rest}; so there is no micrograph to measure the particles on"
    return f"{error}; not looked at: {first}{rest}"


def _settings(picker: Picker, request: Request, previous: Settings | None) -> Settings:
    """As asked for, or else as for the picks that are there, or as the picker has it."""
    threshold = previous.threshold if request.threshold is None and previous else request.threshold
    return settings_of(picker, threshold, request.pixel_size_A, exclusion_of(request, previous))


def _parameters(request: Request, picker: Picker, earlier: Summary | None) -> Parameters:
    """Every setting in force; of the survey, what an `earlier` run has found that this one goes
    on with.
    """
    found = picker.survey
    low, high = (found and found.quartiles_A) or (None, None)
    survey: Parameters = {
        "diameter_auto": request.diameter_A is None,
        "diameter_lower_quartile_A": low,
        "diameter_upper_quartile_A": high,
        "surveyed_micrographs": found.micrographs if found else 0,
        "measured_diameter_A": found.measured_A if found else None,
        "threshold_auto": request.threshold is None,
        "threshold_of_model": picker.spec.threshold,
    }
    if found is None and earlier is not None:
        survey = {name: earlier.parameters.get(name, value) for name, value in survey.items()}
    return {
        "out": str(request.out),
        "diameter_A": picker.diameter_A,
        **survey,
        "contrast": picker.contrast,
        "pixel_size_A": request.pixel_size_A,
        "model": picker.spec.name,
        "backend": request.backend,
        "overlays": request.overlays,
        "adapt": request.adapt,
        "force": request.force,
    }
