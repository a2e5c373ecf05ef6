"""`gtpick-rt check`: what would be picked, what cannot be read and why."""

from typing import TYPE_CHECKING

import typer

from gtpick_rt.cli.options import EXIT_SOME_FAILED, Exclude, Include, Inputs, PixelSize, Recursive, choice
from gtpick_rt.records import counted

if TYPE_CHECKING:
    from gtpick_rt.arrivals.jobs import Found

_HEADER = ("width", "height", "pixels", "Å/px", "micrograph")


def check(
    inputs: Inputs,
    pixel_size: PixelSize = None,
    recursive: Recursive = False,
    include: Include = None,
    exclude: Exclude = None,
) -> None:
    """List the micrographs that would be picked, and those that cannot be read and why.

    Picks nothing. Only headers are read. Exit code 3 tells that some micrographs cannot be picked.
    """
    from rich.console import Console

    from gtpick_rt.arrivals.jobs import find_jobs
    from gtpick_rt.arrivals.sums import told
    from gtpick_rt.cli.tables import table

    found = find_jobs(inputs, recursive, choice(include, exclude))
    readable, failures = _probe(found, pixel_size)
    if readable:
        for line in table(_HEADER, readable):
            typer.echo(line)
    console = Console()
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"{counted(len(readable), 'micrograph')} can be picked, {len(failures)} cannot")
    if found.excluded:
        typer.echo(f"{found.excluded} left out by their names; see --exclude")
    if found.same:
        typer.echo(told(found.same))
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _probe(found: "Found", pixel_size: float | None) -> tuple[list[tuple[str, ...]], list[str]]:
    """Read all headers: a row of each that can be picked, and what is wrong with the others."""
    from gtpick_rt.arrivals.opening import probe_job
    from gtpick_rt.cli.warned import Warned
    from gtpick_rt.errors import MicrographError
    from gtpick_rt.records import printable

    rows, warned = list[tuple[str, ...]](), Warned()
    failures = [f"cannot be picked: {failure.message}" for failure in found.unlisted]
    for job in found.jobs:
        try:
            info, pixel, warnings = probe_job(job, pixel_size)
        except MicrographError as error:
            failures.append(printable(f"cannot be picked: {error}"))
            continue
        rows.append((str(info.width), str(info.height), info.mode, f"{pixel:.4g}", printable(str(job.path))))
        for line in warned.show(str(job.path), warnings):
            typer.echo(line, err=True)
    for line in warned.repeated():
        typer.echo(line, err=True)
    return rows, failures
