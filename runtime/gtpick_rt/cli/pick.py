"""`gtpick-rt pick`: find the particles on many micrographs."""

from pathlib import Path
from typing import Annotated

import typer

from gtpick_rt.cli import workers as placing
from gtpick_rt.cli.options import (
    EXIT_SOME_FAILED,
    BackendName,
    Diameter,
    Exclude,
    Force,
    Include,
    Inputs,
    Model,
    Overlays,
    PixelSize,
    Recursive,
    Threshold,
    choice,
    diameter_in_A,
    format_names,
)


def pick(
    inputs: Inputs,
    out: Annotated[Path, typer.Option(help="Folder for the picks.")],
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    model: Model = None,
    backend: BackendName = "auto",
    threshold: Threshold = None,
    recursive: Recursive = False,
    formats: Annotated[
        str, typer.Option(metavar="LIST", help="Other formats too, with commas: box,cbox,csv,json,cs,topaz.")
    ] = "star",
    overlays: Overlays = False,
    force: Force = False,
    include: Include = None,
    exclude: Exclude = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on picking micrographs as they arrive, until Ctrl-C.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="Watching: pick a file that is whole and unchanged for so long."),
    ] = 2.0,
    max_wait: Annotated[
        float, typer.Option(min=0, metavar="S", help="Watching: report a file that is not whole after so long.")
    ] = 600.0,
    stop_after_idle: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Watching: end when nothing has arrived for so long.")
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="PORT", help="Serve Prometheus metrics on this port, to this machine."),
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Watching: end after so many micrographs.")
    ] = None,
    workers: placing.Workers = None,
    gpus: placing.Gpus = None,
    cluster: placing.Cluster = None,
    scheduler: placing.Scheduler = None,
    shard: placing.ShardOf = None,
    jobs: placing.Jobs = placing.JOBS,
    job_cores: placing.JobCores = placing.JOB_CORES,
    job_memory: placing.JobMemory = placing.JOB_MEMORY,
    job_time: placing.JobTime = placing.JOB_TIME,
    partition: placing.Partition = None,
    account: placing.Account = None,
    job_option: placing.JobOptions = None,
) -> None:
    """Pick the particles on micrographs and write STAR files that RELION reads.

    A folder that holds picks of the same settings is gone on with. INPUT - takes paths from stdin, a line each.
    """
    from gtpick_rt.arrivals.source import Timing
    from gtpick_rt.cli.running import pick_all, stopping
    from gtpick_rt.picking import Request, Watching

    watching = Watching(
        timing=Timing(settle_s=settle, max_wait_s=max_wait), stop_after_idle_s=stop_after_idle, until=until
    )
    place = placing.place_of(
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
        backend=backend,
        threshold=threshold,
        formats=format_names(formats),
        recursive=recursive,
        names=choice(include, exclude),
        watching=watching if watch or "-" in inputs else None,
        overlays=overlays,
        force=force,
        place=place,
        shard=shard,
    )
    with stopping() as stop:
        summary = pick_all(request, stop, metrics)
    if summary.totals.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
