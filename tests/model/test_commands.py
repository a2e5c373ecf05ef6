"""`simulate` and `train` as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from gtpick_model import tiles
from gtpick_model.commands import simulate, train
from gtpick_model.config import VARIANTS, ModelConfig
from gtpick_model.simulator.structures import Structure, held_out
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import split_structures
from gtpick_model.weights import load_weights
from gtpick_rt.errors import UsageError
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.reading.micrographs import read_micrograph

app = typer.Typer()
app.command()(simulate)
app.command()(train)


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def structures() -> tuple[list[Structure], list[Structure]]:
    return split_structures(None, 12, 24)


@pytest.fixture(autouse=True)
def asked_for(
    structures: tuple[list[Structure], list[Structure]],
    split: tuple[ViewLibrary, ViewLibrary],
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[object, int]]:
    """Few and small particles instead of those of the commands, which take a minute; what the
    commands asked for.
    """
    asked: list[tuple[object, int]] = []

    def few(folder: Path | None, procedurals: int, side: int) -> tuple[list[Structure], list[Structure]]:
        asked.append((folder, procedurals))
        return structures

    def small(folder: Path | None, procedurals: int, **_: int) -> tuple[ViewLibrary, ViewLibrary]:
        asked.append((folder, procedurals))
        return split

    monkeypatch.setattr(tiles, "split_structures", few)
    monkeypatch.setattr(tiles, "libraries", small)
    return asked


@pytest.fixture
def tiny(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A variant called tiny."""
    monkeypatch.setitem(VARIANTS, "tiny", config)
    return config


def test_simulated_micrographs_are_written_for_the_runtime(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    code, text = call("simulate", out, "--count", 2, "--size", 160, "--particle", 24, "--seed", 5)
    assert code == 0, text
    assert sorted(path.name for path in out.iterdir()) == [
        "sim_0000.mrc", "sim_0000.star", "sim_0000_negatives.star",
        "sim_0001.mrc", "sim_0001.star", "sim_0001_negatives.star",
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


def test_the_seed_takes_turns_among_the_held_out_structures(
    structures: tuple[list[Structure], list[Structure]], tmp_path: Path
) -> None:
    held_out = structures[1]
    assert len(held_out) > 1
    for seed in range(len(held_out) + 1):
        _, text = call("simulate", tmp_path, "--count", 1, "--size", 96, "--particle", 16, "--seed", seed)
        assert text.splitlines()[-1].startswith(f"{held_out[seed % len(held_out)].name}: ")


@pytest.mark.parametrize("command", ["simulate", "train"])
def test_a_negative_seed_is_refused(command: str, tmp_path: Path) -> None:
    code, text = call(command, tmp_path / "out", "--seed", -1)
    assert code == 2
    assert "--seed" in text


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
    arguments = ("train", out, "--variant", "tiny", "--batch", 1, "--procedurals", 12)
    code, text = call(*arguments, "--steps", 2)
    assert code == 0, text
    assert {path.name for path in out.iterdir()} == {
        "curve.json", "curve.png", "state.safetensors", "step_000002.safetensors",
        "weights.safetensors",
    }  # fmt: skip
    network, provenance = load_weights(out / "weights.safetensors")
    assert network.config == tiny
    assert provenance["steps"] == "2"
    assert str(out / "weights.safetensors") in text
    assert "step 2: held-out structures: best F1" in text
    assert call(*arguments, "--steps", 3)[0] == 0
    assert [point["step"] for point in json.loads((out / "curve.json").read_text())["curve"]] == [2, 3]


def test_other_settings_are_refused_before_anything_is_projected(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", tmp_path / "run", "--variant", "tiny", "--batch", 1, "--steps", 1, "--procedurals", 12)
    assert call(*arguments)[0] == 0
    monkeypatch.setattr("gtpick_model.projections.kept_libraries", None)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "1abc.mrc").touch()
    for changed, other in (
        ("schedule", ("--seed", 5)),
        ("structures", ("--procedurals", 13)),
        ("structures", ("--structures", tmp_path / "maps")),
    ):
        with pytest.raises(UsageError, match=rf"other settings \({changed} differ\)"):
            call(*arguments, *other)


@pytest.mark.parametrize("command", ["simulate", "train"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_projected(
    command: str, asked_for: list[tuple[object, int]], tmp_path: Path
) -> None:
    (tmp_path / "afile").touch()
    with pytest.raises(UsageError, match=r"afile: nothing can be written there \(.*afile is no folder\)"):
        call(command, tmp_path / "afile")
    assert asked_for == []


def test_an_unknown_variant_is_a_usage_error_that_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"'huge'; choose one of {', '.join(VARIANTS)}"):
        call("train", tmp_path / "run", "--variant", "huge")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_a_usage_error(
    device: str, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"no device '{device}': choose cpu"):
        call("train", tmp_path / "run", "--variant", "tiny", "--device", device)
    assert not (tmp_path / "run").exists()
