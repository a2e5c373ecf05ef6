"""What `gtpick-rt pick` and `gtpick-relion` show of a run, and how signals end it."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from gtpick_rt.arrivals.known import unpicked
from gtpick_rt.arrivals.sums import told
from gtpick_rt.cli import streams
from gtpick_rt.cli.options import EXIT_SIGNAL, lasted
from gtpick_rt.cli.progress import FIELDS, progress_bar, told_of
from gtpick_rt.cli.warned import Warned
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import InUseError, UndecidedError
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.output.layout import log_path
from gtpick_rt.output.metrics import Metrics, need_prometheus
from gtpick_rt.output.runlog import append_entry
from gtpick_rt.output.summary import Summary
from gtpick_rt.picking.fulfilling import fulfil
from gtpick_rt.picking.request import Listeners, Request, Work
from gtpick_rt.records import Failure, Record, averaged, counted, printable

STOPPING = b"\nfinishing what is in hand; once more to stop at once\n"
_PLAIN = 10
"""Lines that tell how far a run is, where no bar can be drawn anew."""
NOTHING_FOUND = (
    "warning: next to nothing was found on any of them; if you see particles, compare the pixel size that "
    "`gtpick-rt check` tells with the microscope's, and leave --diameter out"
)
GRACE_S = 30.0
"""Within which a run must end after a signal; then it is cut off. The next run picks what was not
committed."""


@dataclass(frozen=True)
class Stop:
    """Whether to end, and the signals that asked for it."""

    event: threading.Event = field(default_factory=threading.Event)
    signals: list[int] = field(default_factory=list)

    def leave(self) -> None:
        """After a signal, exit with the shell's code for it."""
        if self.signals:
            raise typer.Exit(EXIT_SIGNAL + self.signals[0])


def pick_all(request: Request, stop: Stop, metrics_port: int | None = None) -> Summary:
    """Pick as requested, and say what is done. After a signal the exit code is the shell's for it.

    Raises GtpickError.
    """
    streams.never_wait()
    if metrics_port is not None:
        need_prometheus()  # before anything that takes long
    several, lines = request.cluster is not None, request.watching is not None and not sys.stdout.isatty()
    with closing(Terminal(request.out, metrics_port, several, lines)) as terminal:
        listeners = Listeners(
            building=terminal.building,
            begun=terminal.begun,
            done=terminal.done,
            notice=terminal.notice,
            log=terminal.log,
        )
        try:
            summary = fulfil(request, listeners, stop.event, command=sys.argv)
        except (InUseError, UndecidedError):
            stop.leave()
            raise
    for line in (*_result(summary, request, terminal.settled), *terminal.left()):
        typer.echo(line)
    stop.leave()
    return summary


class Terminal:
    """Shows a run: what is picked, failures and warnings as they happen, a progress bar where there
    is a terminal.

    The bar names what picks: the backend or, where `several` processes do, how many have done
    something so far. With `lines`, as where standard output is a file, each micrograph has a line
    there.
    """

    def __init__(self, out: Path, metrics_port: int | None, several: bool = False, lines: bool = False) -> None:
        self._out, self._port, self._several, self._lines = out, metrics_port, several, lines
        self._workers: set[object] = set()
        console = Console(stderr=True)
        self._engine = Progress(console=console, disable=not console.is_interactive, transient=True)
        self._bar = progress_bar(console)
        self._work: Work | None = None
        self._metrics: Metrics | None = None
        self._started = 0.0
        self._noted = False
        self._warned, self._picks, self._picked = Warned(), 0, 0
        self._skipped: dict[str, list[str]] = {}
        self.settled = False
        """Whether what is picked was settled in this folder by an earlier run."""

    def building(self, phase: str, done: int, of: int) -> None:
        """Show how far the engine is that is built before anything is picked."""
        if not self._engine.tasks:
            self._engine.add_task("")
            self._engine.start()
        self._engine.update(self._engine.tasks[0].id, description=phase, completed=done, total=of)

    def begun(self, picker: Picker, work: Work, before: int) -> None:
        """Say what will be picked. Raises UsageError when metrics cannot be served."""
        for shown in (self._engine, self._bar):  # what is printed would land on their line
            shown.stop()
        typer.echo(_specimen(picker))
        self.settled = picker.survey is None
        if before:
            typer.echo(f"going on: {counted(before, 'micrograph')} picked already")
        self._work, self._started = work, time.monotonic()
        if self._port is not None:
            self._metrics = self._metrics or Metrics(self._port, self._out, self._backlog)
        for before in self._bar.task_ids:  # of a run that begins anew
            self._bar.remove_task(before)
        by = "waiting for workers" if self._several else picker.backend.name
        told: dict[str, Any] = {**dict.fromkeys(FIELDS, ""), "failed": 0, "by": by}
        self._bar.add_task("", total=work.total, **told)
        self._bar.start()

    def _backlog(self) -> int:
        return 0 if self._work is None else self._work.source.backlog

    def notice(self, line: str) -> None:
        """Show a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def done(self, record: Record) -> None:
        """Count a micrograph, and say what is wrong with it."""
        if isinstance(record, Failure):
            # people read words; what reads a log sorts by the kinds that summary.json has
            what = "not picked" if self._bar.console.is_terminal else record.kind
            self.notice(f"{what}: {record.message}")
        else:
            self._picks += record.picks
            self._picked += 1
            self._skipped.pop(record.stem, None)  # of a run that has begun anew
            if record.skipped:
                self._skipped[record.stem] = record.skipped
            for line in self._warned.show(record.path, record.warnings):
                self.notice(line)
        if self._lines:
            what = "failed" if isinstance(record, Failure) else counted(record.picks, "pick")
            typer.echo(f"{printable(record.path)}: {what}")
        (task,) = self._bar.tasks
        failed = task.fields["failed"] + isinstance(record, Failure)
        rate = (task.completed + 1 - failed) / (time.monotonic() - self._started)
        told = {
            "failed": failed,
            "rate": f"{rate:.2f}/s" if rate else "",
            "picks": counted(self._picks, "pick"),
            "each": f"{averaged(self._picks / self._picked)} each" if self._picked > 1 else "",
        }
        self._bar.update(task.id, advance=1, **told)
        if self._bar.console.is_dumb_terminal and task.completed % math.ceil((task.total or _PLAIN) / _PLAIN) == 0:
            self.notice(told_of(task, self._bar.console.width))

    def log(self, entry: Mapping[str, Any]) -> None:
        """Count what is logged, and show how far picking is behind what arrives."""
        if streams.problem() and not self._noted:
            self._noted = True
            message = f"what is printed cannot be shown: {streams.problem()}; picking goes on"
            append_entry(log_path(self._out), {"state": "unseen", "message": message})
        if "lag_s" in entry and self._bar.tasks and self._bar.tasks[0].total is None:
            behind = f"{entry['backlog']} waiting, {lasted(entry['lag_s'])} behind"
            self._bar.update(self._bar.tasks[0].id, behind=behind)
        if "worker" in entry and self._bar.tasks:
            self._workers.add(entry["worker"])
            self._bar.update(self._bar.tasks[0].id, by=counted(len(self._workers), "worker"))
        if self._metrics is not None:
            self._metrics.observe(entry)

    def left(self) -> Iterator[str]:
        """Say what was shown once for many, and what was left out."""
        yield from self._warned.repeated()
        if self._work is None:
            return
        (task,) = self._bar.tasks
        excluded, total = self._work.excluded(), self._work.total
        if excluded:
            yield f"left out by their names: {excluded}, see --exclude"
        if self._skipped:
            flags = ", ".join(sorted({flag for flags in self._skipped.values() for flag in flags}))
            yield f"{counted(len(self._skipped), 'micrograph')} left without picks by --skip-flagged ({flags})"
        if same := self._work.same():
            yield told(same)
        if awaited := self._work.awaited():
            yield unpicked(awaited)
        if total is not None and total > task.completed:
            yield f"not begun: {total - int(task.completed)}"

    def close(self) -> None:
        """End the bars and the metrics."""
        self._engine.stop()
        self._bar.stop()
        if self._metrics is not None:
            self._metrics.close()


def _specimen(picker: Picker) -> str:
    """Say what will be picked, and how that is known: the diameter so that another run of the same
    settings can be given it.
    """
    line = f"particles of {picker.diameter_A:g} Å, {picker.contrast}"
    found = picker.survey
    if found is None:
        return f"{line}: as settled in this folder before; another specimen needs another --out"
    if found.quartiles_A is None:
        return line
    low, high = found.quartiles_A
    return f"{line}: measured on {counted(found.micrographs, 'micrograph')}, the middle half {low:.0f} to {high:.0f} Å"


def _result(summary: Summary, request: Request, settled: bool) -> Iterator[str]:
    """Say what was done and where it is."""
    totals, out = summary.totals, request.out
    by = f", {counted(len(summary.workers), 'worker')}" if summary.workers else ""
    yield f"{counted(summary.picked, 'micrograph')} picked in {lasted(summary.seconds)} on {summary.backend}{by}"
    if summary.retries:
        yield f"picked again because a worker was lost: {counted(summary.retries, 'time')}"
    picks, micrographs = counted(totals.picks, "pick"), counted(totals.micrographs, "micrograph")
    each = f" ({averaged(totals.picks / totals.micrographs)} on average)" if totals.micrographs > 1 else ""
    yield f"in all: {picks} on {micrographs}{each}, {_threshold(summary, settled)}"
    if totals.failed:
        yield f"failed: {totals.failed}, the summary says why"
    if totals.flags:
        yield f"flags: {', '.join(f'{count} {flag}' for flag, count in totals.flags.items())}"
    if totals.flags.get("empty") == totals.micrographs:
        yield NOTHING_FOUND
    listed = "listed in" if request.shard is None else "listed by the last shard to end in"
    yield f"STAR files: {out}, {listed} {out / 'autopick.star'}"
    if request.formats:
        yield f"other formats: {', '.join(map(str, Conversion(formats=request.formats).places(out)))}"
    if request.overlays:
        yield f"overlays: {out / 'overlays'}"
    yield f"summary: {out / 'summary.json'}"


def _threshold(summary: Summary, settled: bool) -> str:
    """Name the threshold in force, and where it comes from unless it was asked for."""
    found = summary.parameters
    line = f"threshold {found['threshold']:.2f}"
    if not found["threshold_auto"] or found["threshold"] == found["threshold_of_model"]:
        return line
    why = "as settled in this folder before" if settled else "suits these micrographs"
    return f"{line} {why} (the model's own: {found['threshold_of_model']:.2f})"


@contextmanager
def stopping() -> Iterator[Stop]:
    """Let the first Ctrl-C or SIGTERM ask to stop; a second one ends the process at once.

    A signal that whoever started this process lets it ignore stays ignored, as a script does with
    the Ctrl-C that is meant for what runs in its foreground.
    """
    stop = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.signals.append(number)
        stop.event.set()
        signal.signal(number, signal.SIG_DFL)
        cut_off.args = (EXIT_SIGNAL + number,)
        cut_off.start()
        streams.show_at_once(STOPPING)

    cut_off = threading.Timer(GRACE_S, os._exit)
    cut_off.daemon = True
    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heeded}
    try:
        yield stop
    finally:
        cut_off.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
