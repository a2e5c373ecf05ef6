"""Only a micrograph that is not there is let go while watching, and none of them for good."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtpick_rt.arrivals import opening
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.detection.picker import Picker
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import log_path
from gtpick_rt.output.summary import Summary
from gtpick_rt.pipeline import bookkeeping
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

IMPATIENT = Timing(settle_s=0.02, max_wait_s=60, poll_s=0.02, longest_s=0.05)
Watch = Callable[..., Summary]
Log = Callable[[Mapping[str, Any]], None]


@pytest.fixture
def micrograph(tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """A micrograph in a folder of its own."""
    return save_mrc(tmp_path / "in" / "a.mrc", dots(np.array([[60, 50]], np.float32), (180, 260)).data)


@pytest.fixture
def pick(dot_picker: Picker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A function that watches an input until nothing comes any more, and tells `log` each entry."""
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.0)

    def run(text: Path, mask: Path | None = None, log: Log = lambda entry: None, **options: Any) -> Summary:
        source = Watched([str(text)], timing=IMPATIENT, **{"stop_after_idle_s": 0.5, **options})
        settings = replace(settings_of(dot_picker, pixel_size_A=1.0), mask=mask and str(mask), mask_sha256=mask and "0")
        with OutputFolder(tmp_path / "out") as output:
            return pipeline.run(source, dot_picker, output, settings, listeners=Listeners(log=log))

    return run


def failures(out: Path) -> list[str]:
    """What is said of what failed."""
    return [failure["message"] for failure in json.loads((out / "summary.json").read_text())["failed"]]


def states(out: Path) -> list[str]:
    """What became of the micrographs, as the log has it."""
    return [json.loads(line)["state"] for line in log_path(out).read_text().splitlines()]


def absent_while_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let the next reading find no file; `act` happens just before it says so."""
    first = [True]

    def read(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        if first and first.pop():
            act()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return read_micrograph(path, *sizes_A, **options)

    monkeypatch.setattr(opening, "read_micrograph", read)


def test_a_mask_that_is_missing_is_waited_for_and_named_in_the_end(
    micrograph: Path, pick: Watch, tmp_path: Path
) -> None:
    summary = pick(micrograph.parent, mask=tmp_path / "mask.png")
    assert (summary.picked, summary.totals.failed) == (0, 1)
    assert failures(tmp_path / "out") == [f"{tmp_path}/mask.png: cannot be read: No such file or directory"]
    assert states(tmp_path / "out").count("again") == 5


def test_a_mask_that_comes_back_costs_no_micrograph(micrograph: Path, pick: Watch, tmp_path: Path) -> None:
    mask, white = tmp_path / "mask.png", Image.fromarray(np.full((180, 260), 255, np.uint8))
    summary = pick(micrograph.parent, mask=mask, log=lambda entry: white.save(mask))
    assert (summary.picked, summary.totals.failed) == (1, 0)
    assert states(tmp_path / "out").count("again") == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_micrograph_that_is_back_before_it_is_looked_for_is_read_again(
    named: bool, micrograph: Path, pick: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent_while_read(monkeypatch, lambda: None)
    summary = pick(micrograph if named else micrograph.parent)
    assert (summary.picked, summary.totals.failed) == (1, 0)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_a_micrograph_that_is_gone_and_comes_back_as_it_was_is_picked(
    after_s: float, named: bool, micrograph: Path, pick: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away.mrc"
    absent_while_read(monkeypatch, lambda: micrograph.rename(away))

    def come_back(entry: Mapping[str, Any]) -> None:
        if entry["state"] == "gone":
            Timer(after_s, away.rename, [micrograph]).start() if after_s else away.rename(micrograph)

    summary = pick(micrograph if named else micrograph.parent, log=come_back, until=1, stop_after_idle_s=30)
    assert (summary.picked, summary.totals.failed) == (1, 0)
    assert states(tmp_path / "out").count("gone") == 1


@pytest.mark.parametrize("named", [True, False])
def test_of_micrographs_that_stay_away_those_that_were_named_are_failures(
    named: bool, micrograph: Path, pick: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent_while_read(monkeypatch, micrograph.unlink)
    summary = pick(micrograph if named else micrograph.parent)
    assert (summary.picked, summary.totals.failed) == (0, int(named))
    assert all(told.startswith(f"{micrograph}: cannot be read: ") for told in failures(tmp_path / "out"))
