"""`gtpick-rt rethreshold`: finished picks at another threshold, without inference."""

from typing import Annotated

import typer

from gtpick_rt.cli.options import EXIT_SOME_FAILED, OutputOf, finite
from gtpick_rt.records import counted


def rethreshold(
    out: OutputOf,
    threshold: Annotated[
        float,
        typer.Option(metavar="SCORE", min=0, max=1, callback=finite, help="Score from which a detection is a pick."),
    ],
) -> None:
    """Rewrite finished picks at another threshold, from the detections that were kept; every format
    in the folder.

    Interrupted, it completes when it is called again. pick goes on at the new threshold.
    """
    from gtpick_rt.output.folder import OutputFolder
    from gtpick_rt.output.rethresholding import rethreshold as rethreshold_all

    with OutputFolder(out) as output:
        done = rethreshold_all(output, threshold)
        totals = output.totals
    for failure in done.failed:
        typer.echo(f"not rewritten: {failure.message}", err=True)
    rewritten = counted(done.micrographs, "micrograph")
    typer.echo(f"{rewritten} rewritten: {counted(done.before, 'pick')} before, {done.after} now")
    in_all = f"{counted(totals.picks, 'pick')} on {counted(totals.micrographs, 'micrograph')}"
    typer.echo(f"in all: {in_all} at threshold {threshold:g}")
    if done.overlays:
        typer.echo(f"{counted(done.overlays, 'overlay')} removed, which showed other picks")
    if done.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
