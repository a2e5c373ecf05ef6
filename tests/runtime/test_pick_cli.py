"""The command `gtpick-rt pick`, from micrographs on disk to STAR files."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cli import app
from gtpick_rt.picker import Picker
from gtpick_rt.types import FloatArray, Micrograph

MakeDots = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]
PLACES = np.array([[71, 39], [151, 87]], np.float32)


@pytest.fixture
def folder(tmp_path: Path, dots: MakeDots, save_mrc: SaveMrc) -> Path:
    """Three micrographs, each with two dots at the centres of the tiny model's cells; one is in a subfolder."""
    for name in ("a.mrc", "b.mrc", "sub/c.mrc"):
        save_mrc(tmp_path / "in" / name, dots(PLACES, (128, 192)).data)
    return tmp_path / "in"


def pick(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pick", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_folder_is_picked_from_end_to_end(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = pick(
        folder, "--out", out, "--diameter", 24, "--model", tiny_model, "--threshold", 0.9, "--recursive", "--overlays"
    )
    assert code == 0, text
    for stem in ("a", "b", "sub/c"):
        block = gemmi.cif.read_file(str(out / f"{stem}_autopick.star")).sole_block()
        x, y = (sorted(map(float, block.find_values(f"_rlnCoordinate{axis}"))) for axis in "XY")
        assert np.abs(np.array([x, y]) - PLACES.T).max() < 9
        assert (out / "overlays" / f"{stem}.png").is_file()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["totals"] | {"detections": 0} == {"micrographs": 3, "failed": 0, "picks": 6, "detections": 0}
    assert summary["parameters"]["diameter_A"] == 24
    assert summary["parameters"]["threshold"] == 0.9
    assert len(summary["model"]["sha256"]) == 64
    assert "6 picks on 3 of 3 micrographs" in text
    for name in ("autopick.star", "overlays", "summary.json"):
        assert str(out / name) in text


def test_without_recursive_subfolders_are_left(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert pick(folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)[0] == 0
    assert not (tmp_path / "out" / "sub").exists()


def test_failed_micrographs_are_named_and_give_code_3(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    (folder / "broken.mrc").write_bytes(b"nothing")
    code, text = pick(folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model)
    assert code == 3
    assert "broken.mrc" in text
    assert "failed: 1" in text
    assert (tmp_path / "out" / "b_autopick.star").is_file()


def test_the_pixel_size_given_overrules_the_header(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pick(folder, "--out", out, "--diameter", 48, "--pixel-size", 1, "--model", tiny_model)[0] == 0
    records = json.loads((out / "summary.json").read_text())["micrographs"]
    assert [record["pixel_size_A"] for record in records] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--diameter", "auto"], "not available yet; give the particle's diameter"),
        (["--diameter", "wide"], "not a number of Å"),
        (["--diameter", "-5"], "must be a positive number of Å"),
        (["--diameter", "24", "--backend", "cuda"], "backend 'cuda' is not in this version"),
        (["--diameter", "24", "--model", "unheard-of"], "no model 'unheard-of'"),
        (["--diameter", "24", "--threshold", "0.01"], "keeps scores from 0.05"),
        (["--diameter", "24", "--threshold", "7"], "--threshold"),
        ([], "--diameter"),
    ],
)
def test_what_cannot_be_done_is_said_and_gives_code_1(
    arguments: list[str], reason: str, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, text = pick(folder, "--out", tmp_path / "out", "--model", tiny_model, *arguments)
    assert code == 1
    assert reason in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_micrograph_in_hand(
    number: signal.Signals,
    code: int,
    folder: Path,
    tmp_path: Path,
    dot_picker: Picker,
    find_dots: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        os.kill(os.getpid(), number)
        return find_dots(tiles)

    picker = Picker(ScriptedBackend(dot_picker.spec, interrupted), dot_picker.spec, 24)
    monkeypatch.setattr(Picker, "open", lambda *args, **kwargs: picker)
    before = signal.getsignal(number)
    got, text = pick(folder, "--out", tmp_path / "out", "--diameter", 24)
    assert got == code
    assert "not begun: 1" in text
    assert (tmp_path / "out" / "a_autopick.star").is_file()
    assert not (tmp_path / "out" / "b_autopick.star").exists()
    assert signal.getsignal(number) == before
