"""The command `gtpick-rt bench`: its figures come from real runs, and agree with each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.cli.main import app
from gtpick_rt.reading.micrographs import read_micrograph

SMALL = ("--count", "3", "--rounds", "1", "--side", "320x256", "--diameter", "40")


def bench(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def figures(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    pytest.importorskip("matplotlib")
    code, text = bench(*SMALL, "--model", tiny_model, "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png")
    assert code == 0, text
    assert "pipeline, files not in the page cache" in text
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    found: dict[str, Any] = json.loads((tmp_path / "b.json").read_text())
    return found


def test_all_stages_are_measured_and_compared(figures: dict[str, Any]) -> None:
    assert (figures["micrographs"], figures["width"], figures["height"]) == (3, 320, 256)
    assert list(figures["stage_s"]) == ["read", "preprocess", "infer", "decode", "write"]
    times = [*figures["stage_s"].values(), figures["read_cold_s"], figures["cpu_s"], figures["pipeline_s"]]
    assert min(times) > 0
    slowest = max(figures["stage_s"].values())
    assert figures["bound_s"] == max(slowest, figures["cpu_s"] / figures["cores"])
    assert figures["efficiency"] == pytest.approx(slowest / figures["pipeline_s"])
    assert figures["efficiency_of_bound"] == pytest.approx(figures["bound_s"] / figures["pipeline_s"])
    assert list(figures["tiles_per_s"]) == ["1", "2", "4", "8", "16"]


def test_micrographs_of_ones_own_are_measured(tiny_model: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, 4, 200, 300, 40)
    code, text = bench(tmp_path, "--diameter", 40, "--model", tiny_model, "--count", 3, "--rounds", 1)
    assert code == 0, text
    assert "3 micrographs of 200 x 300 px" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("in",), "give the particle diameter"),
        (("--side", "4096"), "not two numbers of pixels"),
        (("in", "--diameter", "40"), "give at least 2, got 1"),
    ],
)
def test_what_cannot_be_measured_is_said(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    write_synthetic(Path("in"), 1, 200, 300, 40)
    code, text = bench(*arguments)
    assert code == 1
    assert message in text


def test_synthetic_micrographs_hold_dark_discs_apart(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 2, 500, 400, 60)
    first, second = (read_micrograph(path) for path in sorted(tmp_path.iterdir()))
    assert first.data.shape == (400, 500)
    assert first.pixel_size_A == 1.5
    assert (first.data != second.data).any()
    discs = 6 * np.pi * 20**2 / (400 * 500)  # six of 40 px, a whole step of 100 px from each border
    assert first.data.mean() == pytest.approx(-discs, abs=0.01)
