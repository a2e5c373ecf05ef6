"""`simulate` and `train` as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gtpick_model import tiles
from gtpick_model.commands import simulate, train
from gtpick_model.config import VARIANTS, ModelConfig
from gtpick_model.simulator.structures import held_out
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.weights import load_weights
from gtpick_rt.formats import read_coordinates
from gtpick_rt.reading import read_micrograph

app = typer.Typer()
app.command()(simulate)
app.command()(train)


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def asked_for(split: tuple[ViewLibrary, ViewLibrary], monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, int]]:
    """Small libraries instead of those of the commands, which take a minute; what the commands asked for."""
    asked: list[tuple[object, int]] = []

    def small(folder: Path | None, procedurals: int, **_: int) -> tuple[ViewLibrary, ViewLibrary]:
        asked.append((folder, procedurals))
        return split

    monkeypatch.setattr(tiles, "libraries", small)
    return asked


@pytest.fixture
def tiny(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A variant called tiny."""
    monkeypatch.setitem(VARIANTS, "tiny", config)
    return config


def test_simulated_micrographs_are_written_for_the_runtime(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    code, text = call("simulate", out, "--count", 2, "--size", 160, "--particle", 24, "--seed", 3)
    assert code == 0, text
    assert sorted(path.name for path in out.iterdir()) == [
        "sim_0000.mrc", "sim_0000.star", "sim_0001.mrc", "sim_0001.star",
    ]  # fmt: skip
    specimen, diameter = text.splitlines()[-1].removesuffix(" Å").split(": particle diameter ")
    assert held_out(specimen)
    for path in sorted(out.glob("*.mrc")):
        micrograph = read_micrograph(path)
        assert micrograph.data.shape == (160, 160)
        assert micrograph.pixel_size_A == pytest.approx(float(diameter) / 24, rel=0.01)
        labels = read_coordinates(path.with_suffix(".star"), 24)
        assert len(labels) > 3
        assert labels.xy_px.min() >= -0.5
        assert labels.xy_px.max() <= 159.5
        assert str(path) in text


def test_the_seed_decides_what_is_simulated(tmp_path: Path) -> None:
    images = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        call("simulate", tmp_path / name, "--count", 1, "--size", 96, "--particle", 16, "--seed", seed)
        images.append(read_micrograph(tmp_path / name / "sim_0000.mrc").data)
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("command", ["simulate", "train"])
def test_structures_come_from_the_folder_and_number_given(
    command: str, tiny: ModelConfig, asked_for: list[tuple[object, int]], tmp_path: Path
) -> None:
    options = {
        "simulate": ("--count", 1, "--size", 96, "--particle", 16),
        "train": ("--variant", "tiny", "--steps", 1, "--batch", 1),
    }
    code, text = call(command, tmp_path / "out", "--structures", tmp_path, "--procedurals", 13, *options[command])
    assert code == 0, text
    assert asked_for == [(tmp_path, 13)]


def test_training_writes_weights_a_state_and_curves(tiny: ModelConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("train", out, "--variant", "tiny", "--batch", 1)
    code, text = call(*arguments, "--steps", 2)
    assert code == 0, text
    assert {path.name for path in out.iterdir()} == {
        "curve.json", "curve.png", "state.safetensors", "weights.safetensors",
    }  # fmt: skip
    network, provenance = load_weights(out / "weights.safetensors")
    assert network.config == tiny
    assert provenance["steps"] == "2"
    assert str(out / "weights.safetensors") in text
    assert "step 2: held-out F1" in text
    assert call(*arguments, "--steps", 3)[0] == 0
    assert [point["step"] for point in json.loads((out / "curve.json").read_text())["curve"]] == [2, 3]


def test_an_unknown_variant_is_a_usage_error_that_names_the_others(tmp_path: Path) -> None:
    code, text = call("train", tmp_path / "run", "--variant", "huge")
    assert code == 2
    assert "huge" in text
    for name in VARIANTS:
        assert name in text
    assert not (tmp_path / "run").exists()
