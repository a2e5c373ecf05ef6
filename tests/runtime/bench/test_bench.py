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

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "speed" / "results"
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


def test_a_file_says_on_what_machine_and_with_what_versions(figures: dict[str, Any]) -> None:
    assert {"date", "version", "machine", "processor", "driver", "python", "packages"} <= set(figures)
    assert "numpy" in figures["packages"]


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two measurements that are published."""
    return [RESULTS / "bench.json", RESULTS / "bench_openvino.json"]


def test_measurements_are_put_beside_each_other_and_drawn(two: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, text = bench("--compare", *two, "--plot", tmp_path / "b.png")
    assert code == 0, text
    first, second = told = [json.loads(path.read_text()) for path in two]
    rows = [line.split()[:10] for line in text.splitlines()[1:]]
    assert [row[0] for row in rows] == [f"{each['pipeline_s']:.3f}" for each in told]
    assert [row[1] for row in rows] == ["1.00", f"{second['pipeline_s'] / first['pipeline_s']:.2f}"]
    assert [row[6] for row in rows] == [f"{each['stage_s']['infer']:.3f}" for each in told]
    assert [row[7] for row in rows] == [f"{max(each['tiles_per_s'].values()):.0f}" for each in told]
    assert [row[9] for row in rows] == ["bench:", "bench_openvino:"]
    assert "openvino-bf16, gtpick-nano" in text
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_floors_and_energy_are_compared_where_they_were_measured(two: list[Path], tmp_path: Path) -> None:
    more = {"floors": {"flop": {"share": 0.876}, "storage": {"share": 0.1}}, "energy_J": 12.34}
    (tmp_path / "more.json").write_text(json.dumps(json.loads(two[0].read_text()) | more))
    code, text = bench("--compare", two[1], tmp_path / "more.json")
    assert code == 0, text
    first, second = (json.loads(path.read_text())["pipeline_s"] for path in two)
    row = [f"{first:.3f}", f"{first / second:.2f}", "87.6%", "-", "10.0%", "12.3"]
    assert text.splitlines()[2].split()[:6] == row


def test_measurements_on_other_micrographs_are_told_apart(two: list[Path]) -> None:
    code, text = bench("--compare", two[0], RESULTS / "bench_k3.json")
    assert code == 0
    assert "bench_k3: 5760 x 4092, 107 px instead of 4096 x 4096, 107 px: compare tiles/s alone" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "other.json: cannot be read (No such file or directory)"),
        ("{", "other.json: was not written by gtpick-rt bench --json"),
        ("{}", "other.json: was not written by gtpick-rt bench --json"),
        ("[]", "other.json: was not written by gtpick-rt bench --json"),
    ],
)
def test_a_file_that_is_no_measurement_is_named(
    content: str | None, message: str, two: list[Path], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "other.json").write_text(content)
    code, text = bench("--compare", two[0], tmp_path / "other.json")
    assert code == 1
    assert message in " ".join(text.split())


def test_one_measurement_is_not_compared(two: list[Path]) -> None:
    code, text = bench("--compare", two[0])
    assert code == 1
    assert "give two or more files" in text


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
