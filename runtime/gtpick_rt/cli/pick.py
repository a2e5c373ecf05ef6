"""`gtpick-rt pick`: find the particles on many micrographs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.options import EXIT_SIGNAL, EXIT_SOME_FAILED, Inputs, PixelSize, Recursive
from gtpick_rt.errors import UsageError

if TYPE_CHECKING:
    from gtpick_rt.inputs import Job
    from gtpick_rt.picker import Picker
    from gtpick_rt.pipeline import Parameters, Record
    from gtpick_rt.summary import Summary

STOPPING = b"\nfinishing this micrograph; once more to stop at once\n"


def pick(
    inputs: Inputs,
    out: Annotated[Path, typer.Option(help="Folder for the picks.")],
    diameter: Annotated[
        str,
        typer.Option(metavar="Å|auto", help="Particle diameter in Å, about its longest extent; auto measures it."),
    ] = "auto",
    pixel_size: PixelSize = None,
    model: Annotated[str | None, typer.Option(help="Name of a shipped model, or path of an ONNX file.")] = None,
    backend: Annotated[str, typer.Option(help="What runs the model: auto or cpu.")] = "auto",
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score from which a detection is a pick; by default the model's.")
    ] = None,
    recursive: Recursive = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Also draw the picks on pictures.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the picks that the folder holds.")] = False,
) -> None:
    """Pick the particles on micrographs and write STAR files that RELION reads."""
    from gtpick_rt.inputs import find_jobs
    from gtpick_rt.picker import Picker
    from gtpick_rt.pipeline import check_folder, run
    from gtpick_rt.survey import spread

    jobs, unlisted = find_jobs(inputs, recursive)
    if pixel_size is not None:
        jobs = [replace(job, pixel_size_A=pixel_size) for job in jobs]
    diameter_A = _diameter_A(diameter)
    check_folder(out, force)
    for failure in unlisted:
        typer.echo(f"{failure.kind}: {failure.message}", err=True)
    with _stopping() as (stop, received):
        picker = Picker.open(diameter_A, micrographs=spread(jobs), model=model, backend=backend)
        typer.echo(_specimen(picker))
        parameters: Parameters = {
            "out": str(out),
            **_specimen_parameters(picker),
            "pixel_size_A": pixel_size,
            "model": picker.spec.name,
            "backend": backend,
            "recursive": recursive,
            "overlays": overlays,
            "force": force,
        }
        with _progress(jobs, picker.backend.name) as on_done:
            summary = run(
                jobs,
                picker,
                out,
                threshold,
                overlays=overlays,
                force=force,
                failed=unlisted,
                command=sys.argv,
                parameters=parameters,
                stop=stop,
                on_done=on_done,
            )
    typer.echo(_closing(summary, out, overlays, len(jobs), len(unlisted)))
    if received:
        raise typer.Exit(EXIT_SIGNAL + received[0])
    if summary.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _diameter_A(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--diameter {text}: neither a number of Å nor auto") from None


def _specimen(picker: "Picker") -> str:
    """Say what will be picked, and how that is known."""
    line = f"particles of {picker.diameter_A:.0f} Å, {picker.contrast}"
    found = picker.survey
    if found is None or found.quartiles_A is None:
        return line
    low, high = found.quartiles_A
    return f"{line}: measured on {found.micrographs} micrographs, the middle half {low:.0f} to {high:.0f} Å"


def _specimen_parameters(picker: "Picker") -> "Parameters":
    found = picker.survey
    low, high = (found and found.quartiles_A) or (None, None)
    return {
        "diameter_A": picker.diameter_A,
        "diameter_auto": low is not None,
        "diameter_lower_quartile_A": low,
        "diameter_upper_quartile_A": high,
        "contrast": picker.contrast,
        "surveyed_micrographs": found.micrographs if found else 0,
    }


@contextmanager
def _stopping() -> Iterator[tuple[threading.Event, list[int]]]:
    """Turn the first Ctrl-C or SIGTERM into an event, and list it; a second one ends the process at once."""
    stop, received = threading.Event(), list[int]()

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        os.write(2, STOPPING)  # the buffers of sys.stderr are not to be touched in a signal handler
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(jobs: "list[Job]", backend: str) -> "Iterator[Callable[[Record], None]]":
    """Show a progress bar on stderr, above which failures and warnings are named as they happen."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gtpick_rt.summary import Failure

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    started = time.monotonic()
    with Progress(f"picking on {backend}", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(jobs), rate="")

        def on_done(record: "Record") -> None:
            line = ""
            if isinstance(record, Failure):
                line = f"{record.kind}: {record.message}"
            elif record.warnings:
                line = f"warning: {record.path}: {'; '.join(record.warnings)}"
            if line:
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            done = bar.tasks[task].completed + 1
            bar.update(task, advance=1, rate=f"{done / (time.monotonic() - started):.2f} micrographs/s")

        yield on_done


def _closing(summary: "Summary", out: Path, overlays: bool, asked: int, unlisted: int) -> str:
    """Say what was done and where it is."""
    done, failed = len(summary.micrographs), len(summary.failed)
    picks = sum(record.picks for record in summary.micrographs)
    lines = [f"{picks} picks on {done} of {asked} micrographs in {summary.seconds:.1f} s on {summary.backend}"]
    if failed:
        lines.append(f"failed: {failed}, the summary says why")
    flags = summary.flag_counts()
    if flags:
        lines.append(f"flags: {', '.join(f'{count} {flag}' for flag, count in flags.items())}")
    not_begun = asked + unlisted - done - failed
    if not_begun:
        lines.append(f"not begun: {not_begun}")
    lines.append(f"STAR files: {out}, listed in {out / 'autopick.star'}")
    if overlays:
        lines.append(f"overlays: {out / 'overlays'}")
    lines.append(f"summary: {out / 'summary.json'}")
    return "\n".join(lines)
