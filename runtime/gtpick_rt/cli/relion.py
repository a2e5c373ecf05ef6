"""`gtpick-relion`: the picker as an External job of RELION 3.1, 4 and 5.

RELION starts it in the project folder, and reads in the job's folder how it ended and what it made;
a file that appears there asks it to stop.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from gtpick_rt.cli.help import INPUT, LOOK, OUTPUT, HelpfulCommand
from gtpick_rt.cli.main import errors_told
from gtpick_rt.cli.options import (
    EXIT_SIGNAL,
    EXIT_SOME_FAILED,
    AvoidContamination,
    BackendOrServer,
    Diameter,
    Force,
    Margin,
    Mask,
    Model,
    Overlays,
    PixelSize,
    SkipFlagged,
    Threshold,
    Url,
    backend_at,
    diameter_in_A,
    listed,
)
from gtpick_rt.cli.streams import in_utf8, serving
from gtpick_rt.errors import UsageError

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{outcome}" for outcome in ("SUCCESS", "FAILURE", "ABORTED"))
ABORT_NOW = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
COORDINATES = ("MicrographCoordsGroup.star.relion.autopick", 2)
"""RELION's type of a list of coordinate files: the label of RELION 4 and 5, the number of 3.1."""
_OUTCOMES: dict[str | int | None, str] = {
    0: SUCCESS,
    EXIT_SIGNAL + signal.SIGINT: ABORTED,
    EXIT_SIGNAL + signal.SIGTERM: ABORTED,
}
"""By exit code."""
_POLL_S = 1.0

app = typer.Typer(**LOOK)


def main() -> None:
    """Run the job; however it ends, RELION is told."""
    # looked for beforehand, so that RELION is told also of a command line that cannot be parsed
    folder = next((Path(value) for name, value in pairwise(sys.argv) if name == "--o"), None)
    in_utf8()
    with serving(), errors_told(), nullcontext() if folder is None else _outcome_told(folder):
        app()


@app.command(cls=HelpfulCommand)
def relion(
    o: Annotated[Path, typer.Option("--o", metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder of the job.")],
    in_mics: Annotated[
        Path,
        typer.Option(
            "--in_mics",
            metavar="FILE",
            rich_help_panel=INPUT,
            help="STAR file of the micrographs; it may grow between runs.",
        ),
    ],
    j: Annotated[
        int, typer.Option("--j", metavar="N", help="Accepted, without effect: all cores granted to the job are used.")
    ] = 1,
    pipeline_control: Annotated[
        Path | None,
        typer.Option("--pipeline_control", "--pipeline-control", metavar="FOLDER", help="Accepted: the same as --o."),
    ] = None,
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    model: Model = None,
    backend: BackendOrServer = "auto",
    url: Url = None,
    threshold: Threshold = None,
    margin: Margin = None,
    mask: Mask = None,
    skip_flagged: SkipFlagged = None,
    avoid_contamination: AvoidContamination = False,
    overlays: Overlays = False,
    force: Force = False,
) -> None:
    """Pick the particles on micrographs as an External job of RELION, run in the project folder.

    Run again, it picks the micrographs that are new, and lists all.
    """
    from gtpick_rt.cli.running import pick_all, stopping
    from gtpick_rt.picking.request import Request

    request = Request(
        inputs=(str(in_mics),),
        out=o,
        diameter_A=diameter_in_A(diameter),
        pixel_size_A=pixel_size,
        model=model,
        backend=backend_at(backend, url),
        threshold=threshold,
        margin=margin,
        mask=mask,
        skip_flagged=listed(skip_flagged),
        avoid_contamination=avoid_contamination,
        overlays=overlays,
        force=force,
    )
    _name_outputs(o, in_mics)
    with stopping() as stop, _abort_heeded(o, stop.event):
        totals = pick_all(request, stop).totals
    if totals.failed and not totals.micrographs:
        raise typer.Exit(EXIT_SOME_FAILED)


@contextmanager
def _abort_heeded(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Stop when RELION asks for it."""
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(_POLL_S):
            if (folder / ABORT_NOW).exists():
                stop.set()
                return

    threading.Thread(target=wait, name="gtpick-abort", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _name_outputs(folder: Path, in_mics: Path) -> None:
    """Tell RELION what the job makes; it looks when the job has ended well or is marked so."""
    from gtpick_rt.files.atomic import write_atomic
    from gtpick_rt.formats.star import output_nodes_star
    from gtpick_rt.output.layout import coords_suffix_path, list_path

    suffix = coords_suffix_path(folder)
    node = suffix if _is_of_relion_31(folder) else list_path(folder)
    try:
        write_atomic(suffix, f"{in_mics}\n".encode())
        write_atomic(folder / OUTPUT_NODES, output_nodes_star(str(node), *COORDINATES).encode())
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written ({error.strerror}); free space, and continue") from error


def _is_of_relion_31(folder: Path) -> bool:
    """RELION writes the job's settings before it starts the job; 3.1 has the type of job as a
    number.
    """
    from gtpick_rt.files.shared import bytes_of

    job = bytes_of(folder / "job.star")
    return job is not None and b"_rlnJobTypeLabel" not in job


@contextmanager
def _outcome_told(folder: Path) -> Iterator[None]:
    """Leave the one file in `folder` that says how the job has ended. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (SUCCESS, FAILURE, ABORTED, ABORT_NOW):
            (folder / stale).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; the folder of a job must be writable") from error
    outcome = FAILURE
    try:
        yield
    except SystemExit as ending:
        outcome = _OUTCOMES.get(ending.code, FAILURE)
        raise
    finally:
        aborted = (folder / ABORT_NOW).exists()
        (folder / (ABORTED if aborted else outcome)).touch()
