"""`gtpick-rt convert`: finished picks in the formats of other programs."""

from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.options import EXIT_SOME_FAILED, OutputOf, format_names
from gtpick_rt.errors import UsageError
from gtpick_rt.records import counted

if TYPE_CHECKING:
    from gtpick_rt.output.conversion import Conversion


def convert(
    out: OutputOf,
    formats: Annotated[
        str, typer.Option(metavar="LIST", help="Formats with commas: box,cbox,csv,json,cs,topaz,overlays.")
    ],
    box_size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of the boxes in .box and .cbox, even; by default the diameter."),
    ] = None,
    flip_y: Annotated[
        bool,
        typer.Option(
            "--flip-y", help="Count rows in .cs from the last one: for cryoSPARC's own, mirrored micrographs."
        ),
    ] = False,
) -> None:
    """Write finished picks for EMAN2, crYOLO's boxmanager, cryoSPARC, Topaz and others.

    Later runs into the folder, and rethreshold, keep these formats current.
    """
    from gtpick_rt.output.converting import convert as convert_all
    from gtpick_rt.output.folder import OutputFolder

    asked = _asked(formats, box_size, flip_y)
    with OutputFolder(out) as output:
        output.go_on()
        output.convert_to(output.conversion.updated(asked))
        failed = convert_all(output)
        totals = output.totals
        foreign = sum(record.exposure_uid is None for record in output.records()) if "cs" in asked.formats else 0
    for failure in failed:
        typer.echo(f"not converted: {failure.message}", err=True)
    places = ", ".join(str(place) for place in asked.places(out)) or "STAR files are there already"
    typer.echo(f"{counted(totals.picks, 'pick')} on {counted(totals.micrographs, 'micrograph')}: {places}")
    if "cs" in asked.formats:
        typer.echo(_joined(foreign, totals.micrographs))
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _asked(formats: str, box_size: int | None, flip_y: bool) -> "Conversion":
    """The formats to write. Raises UsageError, also for an option that none of them has."""
    from gtpick_rt.output.conversion import BOXED, Conversion

    asked = Conversion(formats=format_names(formats), box_px=box_size, flip_y=flip_y)
    if flip_y and "cs" not in asked.formats:
        raise UsageError(f"--flip-y: is for .cs, which --formats {formats} does not name: add cs, or leave it out")
    if box_size is not None and not BOXED & set(asked.formats):
        raise UsageError(
            f"--box-size: is for .box and .cbox, which --formats {formats} does not name: add one, or leave it out"
        )
    return asked


def _joined(foreign: int, of: int) -> str:
    """Say whether cryoSPARC will know to which exposures the picks belong."""
    if not foreign:
        return "picks.cs has the uids of cryoSPARC's exposures, to which it joins the picks"
    return (
        f"picks.cs: {foreign} of {counted(of, 'micrograph')} without cryoSPARC's uid, a number by which it knows them; "
        "pick its list instead of the folder, into another --out, as gtpick-rt pick J5/exposures.cs --out joined, "
        "or join by name: docs/cryosparc.md"
    )
