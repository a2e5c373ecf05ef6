"""Pick many micrographs into an output folder from Python."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from gtpick_rt.arrivals.folders import DEFAULT_EXCLUDES, Names
from gtpick_rt.arrivals.source import DEFAULT_TIMING, Timing
from gtpick_rt.cluster.specs import ClusterSpec
from gtpick_rt.output.summary import Summary
from gtpick_rt.picking.fulfilling import fulfil
from gtpick_rt.picking.request import ADAPT_MINUTES, Listeners, Request, Watching, ignore
from gtpick_rt.records import Record


def pick(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    diameter_A: float | None = None,
    pixel_size_A: float | None = None,
    model: str | None = None,
    backend: str = "auto",
    threshold: float | None = None,
    margin: float | str | None = None,
    mask: str | os.PathLike[str] | None = None,
    skip_flagged: Iterable[str] | None = None,
    avoid_contamination: bool = False,
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
    adapt: bool = False,
    adapt_minutes: float = ADAPT_MINUTES,
    cluster: ClusterSpec | None = None,
    shard: str | None = None,
    stop: threading.Event | None = None,
    on_done: Callable[[Record], None] = ignore,
) -> Summary:
    """Pick the particles on micrographs and write the picks to a folder, as `gtpick-rt pick` does.

    A folder that holds picks of the same settings is gone on with. A micrograph that cannot be
    picked is named in the summary and does not end the run.

    Args:
        inputs: folders, files, patterns and micrographs STAR files; one or several.
        out: folder of the picks.
        diameter_A: the particles' longest extent in Å; None measures it on the first micrographs.
        pixel_size_A: Å per pixel, instead of what STAR files and image headers say.
        model: name of a shipped model, or path of an ONNX file; None is the default model.
        backend: what runs the network: auto, cpu, openvino, cuda, tensorrt, tensorrt-rtx, or a
            server of Triton: triton:HOST:PORT.
        threshold: lowest score of a pick, 0 to 1; None is that of the picks in `out`, else the
            model's own, unless the first micrographs promise much more at another.
        margin: along the borders, in Å, or as text in pixels, "40px": no particle reaches into it.
            "auto" is what is smeared or constant. None is that of the picks in `out`, else "auto".
        mask: MRC or PNG, white where picks may lie, or a folder with one named as each micrograph.
        skip_flagged: quality flags; micrographs with one of them get no picks.
        avoid_contamination: leave out picks on film beyond a carbon edge, and in ice larger than a
            particle.
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
        adapt: let the network adapt itself to the specimen, without labels.
        adapt_minutes: time for that.
        cluster: where the workers are that pick, of `gtpick_rt.cluster.specs`; None picks in this
            process.
        shard: pick a part, "3/8" for the third of eight, beside others who pick into the same
            folder.
        stop: once set, the micrograph in hand is finished and the run ends.
        on_done: called with the record of each micrograph, in another thread.

    Returns:
        What was done: see `summary.totals`, of which `failed` counts the micrographs that could not
            be picked.

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
        margin=None if margin is None else str(margin),
        mask=None if mask is None else Path(mask),
        skip_flagged=None if skip_flagged is None else tuple(skip_flagged),
        avoid_contamination=avoid_contamination,
        formats=tuple(formats),
        recursive=recursive,
        names=Names(tuple(include), tuple(exclude)),
        watching=watching if watch else None,
        overlays=overlays,
        force=force,
        adapt=adapt,
        adapt_minutes=adapt_minutes,
        cluster=cluster,
        shard=shard,
    )
    return fulfil(request, Listeners(done=on_done), stop or threading.Event())
