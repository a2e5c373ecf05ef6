"""`gtpick-rt report`: one HTML file that tells how a run went."""

from pathlib import Path
from typing import Annotated

import typer

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.cli.options import OutputOf
from gtpick_rt.errors import UsageError

_SUFFIXES = (".html", ".htm")


def report(
    out: OutputOf,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; by default OUT/report.html.")
    ] = None,
) -> None:
    """Write one HTML file about a run, with its pictures inside, to be sent to a colleague.

    OUT is read, and nothing else; a run may be going on in it. Needs the extra monitor.
    """
    try:
        from gtpick_rt.report.page import make_report
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: {way_to_add('monitor')}") from error
    from gtpick_rt.cli.files import write_file

    path = out / "report.html" if to is None else to
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out {path}: the report is a web page: give it a name that ends in .html")
    page = make_report(out)
    write_file(path, page)
    typer.echo(f"{path}: {len(page) / 1e6:.1f} MB")
