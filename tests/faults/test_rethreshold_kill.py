"""`rethreshold` and `convert` can end at any moment, and any call to the
operating system can fail.
"""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.faults import kill_rethreshold
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.cli.main import app
from gtpick_rt.errors import GtpickError
from gtpick_rt.output import converting
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.threads import settings_of

KILLS = 40
FOR_EVER = 1_000_000
LISTS = ("summary.json", "autopick.star", "picks.cs", "picks_topaz.txt")
"""A micrograph that cannot be read back is left out of them."""


def test_a_folder_mends_whenever_rethreshold_or_convert_is_killed(run_benchmark: Callable[..., dict[str, Any]]) -> None:
    result = run_benchmark("kill_rethreshold.py", "--kills", KILLS)
    assert result["kills"] == KILLS
    assert result["crash_points"] > 15
    assert result["mended"] > 5


@pytest.fixture
def killing(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which makes finished runs and judges them.

    It has one thread, so that calls can be counted.
    """
    monkeypatch.setattr(converting, "THREADS", 1)
    return kill_rethreshold


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("operation", "number", "times"),
    [
        ("open", errno.EIO, 1),
        ("read", errno.EIO, 1),
        ("write", errno.ENOSPC, FOR_EVER),
        ("fsync", errno.EIO, 1),
        ("rename", errno.ENOSPC, FOR_EVER),
        ("index", errno.EIO, 1),
    ],
)
def test_whichever_call_fails_nothing_is_cut_short_and_the_next_call_completes(
    operation: str, number: int, times: int, killing: ModuleType, faults: Any, tiny: ModuleType, tmp_path: Path
) -> None:
    finished = killing.Folder(tmp_path, micrographs=2)
    for moment in count(1, 2):
        finished.reset()
        faults.plan(operation, number, moment, times)
        with contextlib.suppress(GtpickError):
            killing.bring(finished.out, killing.AFTER)
        faults.mend()
        flaws = [flaw for flaw in finished.flaws_after_kill() if not flaw.startswith(LISTS)]
        assert flaws + tiny.flaws_of(finished.out) == [], moment
        assert killing.mend(finished, 0) == [], moment
        if not faults.met:
            break
    assert moment > 5


@pytest.mark.parametrize("command", [["rethreshold", "--threshold", "0.8"], ["convert", "--formats", "csv"]])
def test_the_commands_are_refused_while_a_watcher_writes_there_and_run_after_it(
    command: list[str], killing: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    finished = killing.Folder(tmp_path, micrographs=1)
    stop, begun = threading.Event(), threading.Event()

    def watch() -> None:
        picker = tiny.fake_picker()
        with OutputFolder(finished.out) as output:
            begun.set()
            source = Watched([str(tmp_path / "in")], finished=output.finished)
            pipeline.run(source, picker, output, settings_of(picker), stop=stop)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun.wait()
    refused = CliRunner().invoke(app, [*command, str(finished.out)])
    stop.set()
    watcher.join()
    assert refused.exit_code == 1
    assert f"{finished.out}: process {os.getpid()} on " in refused.output
    assert "is writing here; wait for it, stop it" in refused.output
    assert finished.flaws_when_mended(killing.BEFORE) == []
    assert CliRunner().invoke(app, [*command, str(finished.out)]).exit_code == 0


def test_ctrl_c_is_told_by_the_exit_code(killing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = killing.Folder(tmp_path, micrographs=2)

    def interrupt(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts with &
    try:
        with monkeypatch.context() as patch:
            patch.setattr(OutputFolder, "note", interrupt)
            done = CliRunner().invoke(app, ["rethreshold", str(finished.out), "--threshold", "0.8"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130, done.output
    assert killing.mend(finished, 1) == []
