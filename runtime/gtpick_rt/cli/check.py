"""`gtpick-rt check`: what would be picked, what cannot be read and why."""

from typing import Annotated

import typer

EXIT_SOME_FAILED = 3


def check(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Micrographs: folders, files, globs or STAR files.")
    ],
    pixel_size: Annotated[
        float | None, typer.Option(min=0.01, help="Å per pixel, instead of what STAR files or image headers say.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Look in subfolders too.")] = False,
) -> None:
    """List the micrographs that would be picked, and those that cannot be read and why. Picks nothing.

    Only headers are read. Exit code 3 tells that some micrographs cannot be picked.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from gtpick_rt.errors import MicrographError
    from gtpick_rt.inputs import find_jobs
    from gtpick_rt.reading import choose_pixel_size, probe

    readable = Table(Column("micrograph", overflow="fold"), "width", "height", "pixels", "Å/px", box=None)
    failures: list[str] = []
    for job in find_jobs(inputs, recursive):
        try:
            info = probe(job.path)
            pixel = choose_pixel_size(info, pixel_size or job.pixel_size_A)
        except MicrographError as error:
            failures.append(f"{type(error).__name__}: {error}")
        else:
            readable.add_row(Text(str(job.path)), str(info.width), str(info.height), info.mode, f"{pixel:.4g}")
    console = Console()
    if readable.row_count:
        console.print(readable)
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"{readable.row_count} micrographs can be picked, {len(failures)} cannot")
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)
