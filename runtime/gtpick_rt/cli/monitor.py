"""`gtpick-rt monitor`: a web page that shows a run as it goes on."""

from pathlib import Path
from typing import Annotated

import typer

from gtpick_rt.backends.support import way_to_add
from gtpick_rt.cli.options import OutputOf
from gtpick_rt.errors import UsageError

_PORT = 8470


def monitor(
    out: OutputOf,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port of the page.")] = _PORT,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen at; any but this machine's own one for itself needs a token."
        ),
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the token is kept; by default OUT/.gtpick/monitor-token.")
    ] = None,
) -> None:
    """Show a run on a web page as it goes on, or a finished one: progress, picks, trends, problems.

    OUT is read, and nothing else; picking goes on undisturbed. Ctrl-C ends it. Needs the extra
    monitor.
    """
    try:
        from gtpick_rt.monitor.serving import serve
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: {way_to_add('monitor')}") from error
    _say_if_empty(out)
    serve(out, host, port, token_file, typer.echo)


def _say_if_empty(out: Path) -> None:
    """Say where there is nothing to be shown, which may yet come."""
    from gtpick_rt.output.layout import log_path, shards_folder

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is no folder; give the output folder of a run of pick")
    if not out.exists():
        typer.echo(f"{out}: is not there; it is shown when a run of pick makes it (is the name right?)", err=True)
    elif not (log_path(out).exists() or shards_folder(out).is_dir()):
        typer.echo(f"{out}: holds nothing of pick yet; what a run writes there is shown as it comes", err=True)
