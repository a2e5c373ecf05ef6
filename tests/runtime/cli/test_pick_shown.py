"""What the terminal shows of a run: who picks, and how it ended."""

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.cli import running
from gtpick_rt.cli.progress import progress_bar, told_of
from gtpick_rt.cli.running import Terminal, _result
from gtpick_rt.detection.picker import Picker
from gtpick_rt.output.summary import ModelRecord, Summary, Totals, WorkerRecord
from gtpick_rt.picking.request import Request, Work
from gtpick_rt.records import Failure, MicrographRecord


@pytest.fixture
def begun(tmp_path: Path, dot_picker: Picker) -> Iterator[Callable[[bool], Terminal]]:
    """A function that shows a run that has begun, in this process or in several."""
    opened: list[Terminal] = []

    def begin(several: bool) -> Terminal:
        terminal = Terminal(tmp_path, None, several)
        opened.append(terminal)
        terminal.begun(dot_picker, Work(source=Listed([]), look=lambda: iter(()), endless=False, total=3, before=0), 0)
        return terminal

    yield begin
    for terminal in opened:
        terminal.close()


def shown(terminal: Terminal) -> str:
    (task,) = terminal._bar.tasks
    return str(task.fields["by"])


def test_the_bar_names_the_backend_of_a_run_in_one_process(begun: Callable[[bool], Terminal]) -> None:
    terminal = begun(False)
    terminal.log({"state": "picked", "lag_s": 1.0, "backlog": 2})
    assert shown(terminal) == "scripted"


def test_the_bar_counts_the_workers_that_have_done_something(begun: Callable[[bool], Terminal]) -> None:
    terminal = begun(True)
    assert shown(terminal) == "waiting for workers"
    for worker, words in (("worker0", "1 worker"), ("worker0", "1 worker"), ("worker1", "2 workers")):
        terminal.log({"state": "picked", "lag_s": 1.0, "backlog": 2, "worker": worker})
        assert shown(terminal) == words
    terminal.log({"state": "again", "path": "a.mrc", "backlog": 2})
    assert shown(terminal) == "2 workers"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("total", [10_000, None])
def test_the_bar_is_never_cut(width: int, total: int | None) -> None:
    screen = io.StringIO()
    bar = progress_bar(Console(file=screen, force_terminal=True, width=width, color_system=None))
    behind = "" if total else "31 waiting, 12.2 s behind"
    told: dict[str, Any] = {
        "failed": 24,
        "picks": "1234500 picks",
        "each": "125 each",
        "behind": behind,
        "rate": "2.25/s",
        "by": "onnxruntime-cpu",
    }
    with bar:
        bar.add_task("", total=total, completed=9876, **told)
    line = next(each for each in reversed(screen.getvalue().splitlines()) if "picks" in each)
    assert "…" not in line
    assert (f"9852/{total}, 24 failed, " if total else "9852, 24 failed, ") in line
    assert "1234500 picks" in line
    assert (behind in line) == (width > 60 or not behind)
    assert ("125 each, 2.25/s, onnxruntime-cpu" in line) == (width > 80)


@given(st.integers(60, 120), st.booleans())
def test_the_bar_stays_on_one_line(width: int, endless: bool) -> None:
    screen = io.StringIO()
    bar = progress_bar(Console(file=screen, force_terminal=True, width=width, color_system=None))
    told: dict[str, Any] = {"failed": 0, "picks": "67 picks", "behind": "1 waiting, 1.7 s behind", "each": "34 each"}
    with bar:
        bar.add_task("", total=None if endless else 10, completed=2, rate="1.07/s", by="onnxruntime-cpu", **told)
    assert "\x1b[1A" not in screen.getvalue()  # up by a line, to draw over two


def test_failures_are_no_picked_micrographs(
    begun: Callable[[bool], Terminal], record_of: Callable[[str], MicrographRecord]
) -> None:
    terminal = begun(False)
    terminal.done(Failure(stem="a", path="a.mrc", kind="FormatError", message="a.mrc: no image"))
    terminal.done(record_of("b"))
    (task,) = terminal._bar.tasks
    assert told_of(task, 40).startswith("1/3, 1 failed, 3 picks, ")


def test_the_rate_is_of_micrographs_picked(
    begun: Callable[[bool], Terminal], record_of: Callable[[str], MicrographRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = begun(False)
    monkeypatch.setattr(running.time, "monotonic", lambda: terminal._started + 4)
    (task,) = terminal._bar.tasks
    terminal.done(Failure(stem="a", path="a.mrc", kind="FormatError", message="a.mrc: no image"))
    assert task.fields["rate"] == ""
    for stem in "bc":
        terminal.done(record_of(stem))
    assert task.fields["rate"] == "0.50/s"


@pytest.mark.parametrize(("picks", "told"), [((34, 35), "35"), ((23, 24), "24"), ((4, 5), "4.5"), ((9, 9), "9")])
def test_the_bar_and_the_end_tell_one_mean(
    picks: tuple[int, int],
    told: str,
    begun: Callable[[bool], Terminal],
    record_of: Callable[[str], MicrographRecord],
) -> None:
    terminal = begun(False)
    for stem, number in zip("ab", picks, strict=True):
        terminal.done(dataclasses.replace(record_of(stem), picks=number))
    (task,) = terminal._bar.tasks
    assert task.fields["each"] == f"{told} each"
    assert f" on 2 micrographs ({told} on average)" in ending(picks=picks)[1]


def test_the_end_tells_how_many_micrographs_were_left_without_picks_for_their_flags(
    begun: Callable[[bool], Terminal], record_of: Callable[[str], MicrographRecord]
) -> None:
    terminal = begun(False)
    terminal.done(record_of("a"))
    assert not any("--skip-flagged" in line for line in terminal.left())
    for stem, flags in (("a", ["ice"]), ("b", ["carbon edge", "ice"]), ("c", ["ice"])):
        terminal.done(dataclasses.replace(record_of(stem), skipped=flags))
    assert "3 micrographs left without picks by --skip-flagged (carbon edge, ice)" in terminal.left()
    for stem in "ab":  # once more, after the network has adapted itself
        terminal.done(record_of(stem))
    assert "1 micrograph left without picks by --skip-flagged (ice)" in terminal.left()


def test_a_run_that_begins_anew_does_not_write_into_the_bar(
    begun: Callable[[bool], Terminal], dot_picker: Picker, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(running, "Console", lambda **_: Console(file=screen, force_terminal=True, width=60))
    monkeypatch.setattr(running.typer, "echo", lambda line: screen.write(f"{line}\n"))
    terminal = begun(False)
    terminal.begun(dot_picker, Work(source=Listed([]), look=lambda: iter(()), endless=False, total=3, before=0), 0)
    *_, before, _ = screen.getvalue().split("particles of")
    assert "scripted" in before
    assert screen.getvalue().rpartition("particles of")[0].rstrip("\x1b[?25h").endswith("\n")


def test_a_dumb_terminal_gets_whole_lines_and_no_bar(
    begun: Callable[[bool], Terminal],
    record_of: Callable[[str], MicrographRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(running, "Console", lambda **_: dumb(screen))
    terminal = begun(False)
    terminal.done(Failure(stem="a", path="a.mrc", kind="FormatError", message="a.mrc: no image"))
    terminal.done(record_of("b"))
    terminal.close()
    lines = screen.getvalue().splitlines()
    assert [line.split(", ", 2)[:2] for line in lines] == [
        ["not picked: a.mrc: no image"],
        ["0/3", "1 failed"],
        ["1/3", "1 failed"],
    ]


def dumb(screen: io.StringIO) -> Console:
    return Console(file=screen, force_terminal=True, width=60, _environ={"TERM": "dumb"})


def ending(
    workers: int = 0,
    retries: int = 0,
    shard: str | None = None,
    seconds: float = 2.0,
    picked: int = 5,
    settled: bool = False,
    picks: tuple[int, ...] = (3, 3, 3, 3, 3),
    **parameters: float,
) -> list[str]:
    """The lines after a run."""
    summary = Summary(
        command=[],
        parameters={"threshold": 0.4, "threshold_auto": True, "threshold_of_model": 0.4} | parameters,
        model=ModelRecord(name="nano", version="2", sha256="ab", floor=0.05),
        backend="cuda",
        seconds=seconds,
        stage_seconds={},
        picked=picked,
        totals=Totals(micrographs=len(picks), failed=0, picks=sum(picks), detections=100, flags={}),
        workers=[WorkerRecord(name=f"gpu{n}", backend="cuda", micrographs=1, busy_s=1.0) for n in range(workers)],
        retries=retries,
    )
    return list(_result(summary, Request(inputs=("in",), out=Path("out"), shard=shard), settled))


def test_the_end_tells_how_many_workers_picked_on_what() -> None:
    assert ending()[0] == "5 micrographs picked in 2.0 s on cuda"
    assert ending(1)[0] == "5 micrographs picked in 2.0 s on cuda, 1 worker"
    assert ending(4)[0] == "5 micrographs picked in 2.0 s on cuda, 4 workers"


@pytest.mark.parametrize(
    ("seconds", "picked", "line"),
    [(59.94, 5, "5 micrographs picked in 59.9 s"), (5025.3, 12000, "12,000 micrographs picked in 1 h 23 min")],
)
def test_times_and_counts_are_told_as_people_read_them(seconds: float, picked: int, line: str) -> None:
    assert ending(seconds=seconds, picked=picked)[0] == f"{line} on cuda"


def test_the_end_tells_of_what_was_picked_again_where_workers_were_lost() -> None:
    assert not any("again" in line for line in ending(4))
    assert "picked again because a worker was lost: 1 time" in ending(4, retries=1)


def test_a_shard_says_who_lists_what_it_has_picked() -> None:
    assert "STAR files: out, listed in out/autopick.star" in ending()
    assert "STAR files: out, listed by the last shard to end in out/autopick.star" in ending(shard="1/2")


def test_the_end_tells_the_threshold_and_whether_it_was_found() -> None:
    assert ending()[1] == "in all: 15 picks on 5 micrographs (3 on average), threshold 0.40"
    found = "threshold 0.40 suits these micrographs (the model's own: 0.47)"
    assert ending(threshold_of_model=0.47)[1] == f"in all: 15 picks on 5 micrographs (3 on average), {found}"
    settled = "threshold 0.40 as settled in this folder before (the model's own: 0.47)"
    assert ending(threshold_of_model=0.47, settled=True)[1].endswith(settled)
    assert ending(threshold_of_model=0.47, threshold_auto=False)[1].endswith("threshold 0.40")
