"""What `gtpick-rt pick` and `gtpick-relion` do alike: from a source of micrographs to an exit code."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gtpick_rt.arrivals import Listed, Source, Timing, Watched
from gtpick_rt.arrivals.ahead import Ahead
from gtpick_rt.arrivals.listed import unfinished
from gtpick_rt.cli.options import EXIT_SIGNAL
from gtpick_rt.errors import UndecidedError
from gtpick_rt.folders import Names
from gtpick_rt.formats.writing import Conversion
from gtpick_rt.inputs import Job, find_jobs
from gtpick_rt.output import OutputFolder
from gtpick_rt.picker import CONTRASTS, Picker
from gtpick_rt.pipeline import Parameters, run, settings_of
from gtpick_rt.summary import Failure, Record, Settings, Summary
from gtpick_rt.survey import readable, spread

STOPPING = b"\nfinishing what is in hand; once more to stop at once\n"
GRACE_S = 30.0
"""Within which a run must end after a signal; then it is cut off. The next run picks what was not committed."""

Finished = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to pick with, and how."""

    out: Path
    diameter_A: float | None
    """None measures it."""
    pixel_size_A: float | None
    model: str | None
    backend: str
    threshold: float | None
    """None takes that of the picks in the folder, or the model's."""
    overlays: bool
    force: bool
    metrics_port: int | None = None
    formats: tuple[str, ...] = ()
    """Other formats than STAR."""

    def __post_init__(self) -> None:
        Conversion(formats=self.formats)  # refuses formats that are not known


@dataclass(frozen=True, kw_only=True)
class Work:
    """The micrographs of a run."""

    source: Source
    look: Callable[[], Iterator[Job]]
    """Brings some of them to be looked at before the run."""
    endless: bool
    """Whether others may come at any time."""
    total: int | None
    """How many there are to pick, if that is known."""
    before: int
    """How many an earlier run has picked."""
    excluded: Callable[[], int] = lambda: 0
    """How many files were left out by their names, so far."""


def listed(inputs: Sequence[str], recursive: bool, names: Names, finished: Finished, stop: threading.Event) -> Work:
    """The micrographs that are there now. Raises UsageError."""
    found = find_jobs(inputs, recursive, names)
    jobs = unfinished(found.jobs, finished)
    for failure in found.unlisted:
        typer.echo(f"{failure.kind}: {failure.message}", err=True)
    return Work(
        source=Listed(jobs, found.unlisted),
        look=lambda: takewhile(lambda _: not stop.is_set(), spread(jobs)),
        endless=False,
        total=len(jobs) + len(found.unlisted),
        before=len(found.jobs) - len(jobs),
        excluded=lambda: found.excluded,
    )


def watched(
    inputs: Sequence[str],
    recursive: bool,
    names: Names,
    timing: Timing,
    stop_after_idle_s: float | None,
    until: int | None,
    finished: Finished,
    stop: threading.Event,
) -> Work:
    """The micrographs that are there or will come."""
    ends = stop_after_idle_s is not None or until is not None or "-" in inputs
    source = Watched(
        inputs,
        recursive=recursive,
        names=names,
        timing=timing,
        finished=finished,
        stop_after_idle_s=stop_after_idle_s,
        until=until,
    )
    ahead = Ahead(source, stop)
    return Work(
        source=ahead,
        look=ahead.look,
        endless=not ends,
        total=until,
        before=len(finished),
        excluded=lambda: source.excluded,
    )


def pick_all(request: Request, find: Callable[[Finished, threading.Event], Work]) -> Summary:
    """Pick what `find` brings, given what is finished and the event that asks to stop; and say what is done.

    After a signal the exit code is the shell's for it. Raises GtpickError.
    """
    with stopping() as (stop, received), OutputFolder(request.out, request.force) as output:
        work = find(output.finished, stop)
        try:
            picker = _open_picker(request, output.previous, work, stop)
        except UndecidedError:
            if received:
                raise typer.Exit(EXIT_SIGNAL + received[0]) from None
            raise
        settings = settings_of(picker, _threshold(request, output.previous), request.pixel_size_A)
        typer.echo(_specimen(picker))
        if work.before and settings == output.previous:
            typer.echo(f"going on: {work.before} micrographs are picked already")
        with (
            _metrics(request, work.source) as on_log,
            _progress(work.total, picker.backend.name) as (on_done, on_notice, count),
        ):
            summary = run(
                work.source,
                picker,
                output,
                settings,
                overlays=request.overlays,
                formats=request.formats,
                command=sys.argv,
                parameters=_parameters(request, picker),
                stop=stop,
                on_done=on_done,
                on_notice=on_notice,
                on_log=on_log,
            )
    typer.echo(_closing(summary, request))
    if work.excluded():
        typer.echo(f"left out by their names: {work.excluded()}, see --exclude")
    if work.total is not None and work.total > count():
        typer.echo(f"not begun: {work.total - count()}")
    if received:
        raise typer.Exit(EXIT_SIGNAL + received[0])
    return summary


@contextmanager
def _metrics(request: Request, source: Source) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Serve metrics if that is asked for; gives what is to be called with each entry of the log."""
    if request.metrics_port is None:
        yield lambda entry: None
        return
    from gtpick_rt.metrics import Metrics

    with closing(Metrics(request.metrics_port, request.out, lambda: source.backlog)) as metrics:
        yield metrics.observe


def _open_picker(request: Request, previous: Settings | None, work: Work, stop: threading.Event) -> Picker:
    """Load the model; what an earlier run in this folder has measured is not measured again."""
    if previous is not None:
        diameter_A = previous.diameter_A if request.diameter_A is None else request.diameter_A
        (contrast,) = (each for each in CONTRASTS if each == previous.contrast)
        return Picker.open(diameter_A, contrast=contrast, model=request.model, backend=request.backend)
    while True:
        try:
            micrographs = readable(work.look(), request.pixel_size_A)
            return Picker.open(
                request.diameter_A, micrographs=micrographs, model=request.model, backend=request.backend
            )
        except UndecidedError as error:
            if stop.is_set() or not work.endless:
                raise
            typer.echo(f"{error}; or wait: the next micrographs are looked at as they come", err=True)


def _threshold(request: Request, previous: Settings | None) -> float | None:
    """As asked for, or as for the picks that are there; None is the model's own."""
    return previous.threshold if request.threshold is None and previous else request.threshold


def _specimen(picker: Picker) -> str:
    """Say what will be picked, and how that is known."""
    line = f"particles of {picker.diameter_A:.0f} Å, {picker.contrast}"
    found = picker.survey
    if found is None or found.quartiles_A is None:
        return line
    low, high = found.quartiles_A
    return f"{line}: measured on {found.micrographs} micrographs, the middle half {low:.0f} to {high:.0f} Å"


def _parameters(request: Request, picker: Picker) -> Parameters:
    """Every setting in force."""
    found = picker.survey
    low, high = (found and found.quartiles_A) or (None, None)
    return {
        "out": str(request.out),
        "diameter_A": picker.diameter_A,
        "diameter_auto": request.diameter_A is None,
        "diameter_lower_quartile_A": low,
        "diameter_upper_quartile_A": high,
        "contrast": picker.contrast,
        "surveyed_micrographs": found.micrographs if found else 0,
        "pixel_size_A": request.pixel_size_A,
        "model": picker.spec.name,
        "backend": request.backend,
        "overlays": request.overlays,
        "force": request.force,
    }


@contextmanager
def stopping() -> Iterator[tuple[threading.Event, list[int]]]:
    """Turn the first Ctrl-C or SIGTERM into an event, and list it; a second one ends the process at once."""
    stop, received = threading.Event(), list[int]()

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        os.write(2, STOPPING)  # the buffers of sys.stderr are not to be touched in a signal handler
        stop.set()
        signal.signal(number, signal.SIG_DFL)
        cut_off.args = (EXIT_SIGNAL + number,)
        cut_off.start()

    cut_off = threading.Timer(GRACE_S, os._exit)
    cut_off.daemon = True
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, received
    finally:
        cut_off.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(
    total: int | None, backend: str
) -> Iterator[tuple[Callable[[Record], None], Callable[[str], None], Callable[[], int]]]:
    """Show a progress bar on a terminal's stderr, above which failures and warnings are named as they happen.

    Gives what is to be called with each record, with each notice, and to learn the number of records.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    started = time.monotonic()
    console = Console(stderr=True)
    with Progress(f"picking on {backend}", *columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def on_notice(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

        def on_done(record: Record) -> None:
            if isinstance(record, Failure):
                on_notice(f"{record.kind}: {record.message}")
            elif record.warnings:
                on_notice(f"warning: {record.path}: {'; '.join(record.warnings)}")
            done = bar.tasks[task].completed + 1
            bar.update(task, advance=1, rate=f"{done / (time.monotonic() - started):.2f} micrographs/s")

        yield on_done, on_notice, lambda: int(bar.tasks[task].completed)


def _closing(summary: Summary, request: Request) -> str:
    """Say what was done and where it is."""
    totals, out = summary.totals, request.out
    lines = [f"{summary.picked} micrographs picked in {summary.seconds:.1f} s on {summary.backend}"]
    lines.append(f"in all: {totals.picks} picks on {totals.micrographs} micrographs")
    if totals.failed:
        lines.append(f"failed: {totals.failed}, the summary says why")
    if totals.flags:
        lines.append(f"flags: {', '.join(f'{count} {flag}' for flag, count in totals.flags.items())}")
    lines.append(f"STAR files: {out}, listed in {out / 'autopick.star'}")
    if request.formats:
        lines.append(f"other formats: {', '.join(map(str, Conversion(formats=request.formats).places(out)))}")
    if request.overlays:
        lines.append(f"overlays: {out / 'overlays'}")
    lines.append(f"summary: {out / 'summary.json'}")
    return "\n".join(lines)
