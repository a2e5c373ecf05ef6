"""`gtpick-rt check`: what would be picked, what cannot be read and why."""

import typer

from gtpick_rt.cli.options import EXIT_SOME_FAILED, Exclude, Include, Inputs, PixelSize, Recursive, choice


def check(
    inputs: Inputs,
    pixel_size: PixelSize = None,
    recursive: Recursive = False,
    include: Include = None,
    exclude: Exclude = None,
) -> None:
    """List the micrographs that would be picked, and those that cannot be read and why.

    Picks nothing.

    Only headers are read. Exit code 3 tells that some micrographs cannot be picked.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from gtpick_rt.arrivals.jobs import find_jobs
    from gtpick_rt.arrivals.opening import probe_job
    from gtpick_rt.arrivals.sums import told
    from gtpick_rt.errors import MicrographError
    from gtpick_rt.records import printable

    readable = Table(Column("micrograph", overflow="fold"), "width", "height", "pixels", "Å/px", box=None)
    found = find_jobs(inputs, recursive, choice(include, exclude))
    failures = [f"{failure.kind}: {failure.message}" for failure in found.unlisted]
    for job in found.jobs:
        try:
            info, pixel, warnings = probe_job(job, pixel_size)
        except MicrographError as error:
            failures.append(printable(f"{type(error).__name__}: {error}"))
        else:
            readable.add_row(Text(str(job.path)), str(info.width), str(info.height), info.mode, f"{pixel:.4g}")
            for warning in warnings:
                typer.echo(f"warning: {job.path}: {warning}", err=True)
    console = Console()
    if readable.row_count:
        console.print(readable)
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"{readable.row_count} micrographs can be picked, {len(failures)} cannot")
    if found.excluded:
        typer.echo(f"{found.excluded} left out by their names; see --exclude")
    if found.same:
        typer.echo(told(found.same))
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)
