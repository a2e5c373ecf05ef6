"""`gtpick-rt pick`: find the particles on many micrographs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli import clusters
from gtpick_rt.cli.help import MODEL, ON_THE_FLY, OUTPUT
from gtpick_rt.cli.options import (
    EXIT_SOME_FAILED,
    AvoidContamination,
    BackendOrServer,
    Device,
    Diameter,
    Exclude,
    Force,
    Include,
    Inputs,
    Margin,
    Mask,
    Model,
    Overlays,
    PixelSize,
    Recursive,
    SkipFlagged,
    Threshold,
    Url,
    backend_at,
    choice,
    diameter_in_A,
    format_names,
    listed,
)
from gtpick_rt.errors import UsageError

if TYPE_CHECKING:
    from gtpick_rt.picking.request import Watching

SETTLE_S, MAX_WAIT_S = 2.0, 600.0


def pick(
    inputs: Inputs,
    out: Annotated[Path, typer.Option(metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder for the picks.")],
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    model: Model = None,
    backend: BackendOrServer = "auto",
    url: Url = None,
    device: Device = None,
    threshold: Threshold = None,
    margin: Margin = None,
    mask: Mask = None,
    skip_flagged: SkipFlagged = None,
    avoid_contamination: AvoidContamination = False,
    recursive: Recursive = False,
    formats: Annotated[
        str,
        typer.Option(
            metavar="LIST", rich_help_panel=OUTPUT, help="Other formats too, with commas: box,cbox,csv,json,cs,topaz."
        ),
    ] = "star",
    overlays: Overlays = False,
    force: Force = False,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", rich_help_panel=MODEL, help="Let the network adapt itself to the specimen, without labels."
        ),
    ] = False,
    adapt_minutes: Annotated[
        float, typer.Option(min=0.1, metavar="MINUTES", rich_help_panel=MODEL, help="With --adapt: time to learn.")
    ] = 5.0,
    include: Include = None,
    exclude: Exclude = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", rich_help_panel=ON_THE_FLY, help="Go on picking micrographs as they arrive, until Ctrl-C."
        ),
    ] = False,
    settle: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            rich_help_panel=ON_THE_FLY,
            help="Watching: pick a file that is whole and unchanged for so many seconds.",
        ),
    ] = SETTLE_S,
    max_wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            rich_help_panel=ON_THE_FLY,
            help="Watching: report a file that is not whole after so many seconds.",
        ),
    ] = MAX_WAIT_S,
    stop_after_idle: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            rich_help_panel=ON_THE_FLY,
            help="Watching: end when nothing has arrived for so many seconds.",
        ),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            rich_help_panel=ON_THE_FLY,
            help="Serve Prometheus metrics on this port, to this machine.",
        ),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=ON_THE_FLY, help="Watching: end after so many micrographs."),
    ] = None,
    workers: clusters.Workers = None,
    gpus: clusters.Gpus = None,
    cluster: clusters.Cluster = None,
    scheduler: clusters.Scheduler = None,
    shard: clusters.ShardOf = None,
    jobs: clusters.Jobs = clusters.JOBS,
    job_cores: clusters.JobCores = clusters.JOB_CORES,
    job_memory: clusters.JobMemory = clusters.JOB_MEMORY,
    job_time: clusters.JobTime = clusters.JOB_TIME,
    partition: clusters.Partition = None,
    account: clusters.Account = None,
    job_option: clusters.JobOptions = None,
) -> None:
    """Pick the particles on micrographs and write STAR files that RELION reads.

    Run again with the same settings, it continues in the same folder. INPUT may be -: paths
    from stdin, a line each.
    """
    from gtpick_rt.cli.running import pick_all, stopping
    from gtpick_rt.picking.request import Request

    watching = _watching(watch or "-" in inputs, settle, max_wait, stop_after_idle, until)
    spec = clusters.cluster_of(
        workers,
        gpus,
        cluster,
        scheduler,
        shard,
        jobs=jobs,
        job_cores=job_cores,
        job_memory=job_memory,
        job_time=job_time,
        partition=partition,
        account=account,
        job_option=job_option,
    )
    request = Request(
        inputs=tuple(inputs),
        out=out,
        diameter_A=diameter_in_A(diameter),
        pixel_size_A=pixel_size,
        model=model,
        backend=backend_at(backend, url),
        threshold=threshold,
        margin=margin,
        mask=mask,
        skip_flagged=listed(skip_flagged),
        avoid_contamination=avoid_contamination,
        formats=format_names(formats),
        recursive=recursive,
        names=choice(include, exclude),
        watching=watching,
        overlays=overlays,
        force=force,
        adapt=adapt,
        adapt_minutes=adapt_minutes,
        cluster=spec,
        shard=shard,
    )
    with stopping() as stop:
        summary = pick_all(request, stop, metrics)
    if summary.totals.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _watching(
    watch: bool, settle: float, max_wait: float, stop_after_idle: float | None, until: int | None
) -> "Watching | None":
    """How to watch; None picks what is there. Raises UsageError."""
    from gtpick_rt.arrivals.source import Timing
    from gtpick_rt.picking.request import Watching

    if watch:
        timing = Timing(settle_s=settle, max_wait_s=max_wait)
        return Watching(timing=timing, stop_after_idle_s=stop_after_idle, until=until)
    if (settle, max_wait, stop_after_idle, until) != (SETTLE_S, MAX_WAIT_S, None, None):
        raise UsageError("--settle, --max-wait, --stop-after-idle and --until go with --watch, or with the input -")
    return None
