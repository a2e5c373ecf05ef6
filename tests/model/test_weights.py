"""Weights on disk: they come back as they were, and nothing in a file is ever run."""

import dataclasses
import errno
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gtpick_model.config import ModelConfig
from gtpick_model.network import GTPick
from gtpick_model.weights import load_weights, mean_of, save_weights
from gtpick_rt.errors import ModelError


@pytest.mark.parametrize("source", ["proposals", "learned"])
def test_weights_come_back_in_half_precision(source: str, config: ModelConfig, tmp_path: Path) -> None:
    network = GTPick(replace(config, query_source=source))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    path = tmp_path / "new" / "weights.safetensors"
    save_weights(path, network, {"steps": "7"})
    loaded, provenance = load_weights(path)
    assert provenance == {"steps": "7"}
    assert loaded.config == network.config
    assert not loaded.training
    for name, value in network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[name], expected), name
        assert loaded.state_dict()[name].dtype == value.dtype
    # Half the bytes, and a header.
    full = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    with safe_open(path, framework="pt") as file:
        stored = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict
    assert sum(value.numel() * value.element_size() for value in stored) < 0.55 * full


def test_a_loaded_network_answers_as_the_saved_one(config: ModelConfig, tmp_path: Path) -> None:
    network = GTPick(config).half().float().eval()
    save_weights(tmp_path / "w.safetensors", network, {})
    tiles = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        answer, again = (n(tiles).layers[-1] for n in (network, load_weights(tmp_path / "w.safetensors")[0]))
    torch.testing.assert_close(again.logits, answer.logits)
    torch.testing.assert_close(again.boxes, answer.boxes)


def other_tensors(path: Path) -> None:
    save_file({"x": torch.zeros(2)}, path)


def other_header(path: Path) -> None:
    save_file({"x": torch.zeros(2)}, path, metadata={"format": "pt"})


@pytest.mark.parametrize("write", [other_tensors, other_header])
def test_a_file_without_configuration_is_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write(path)
    with pytest.raises(ModelError, match=r"other\.safetensors holds no gtpick-rt network"):
        load_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"colour": "red"}},
        {"config": {"dim": None}},
        {"config": {"dim": 32}},
        {"config": {"decoder_layers": 1}},
        {"provenance": None},
        {"provenance": "{not JSON"},
    ],
    ids=["unknown field", "missing field", "other shapes", "other layers", "no provenance", "damaged provenance"],
)
def test_weights_of_another_version_are_refused(change: dict[str, Any], config: ModelConfig, tmp_path: Path) -> None:
    """None takes a field or an entry of the header out."""
    fields = {**dataclasses.asdict(config), **change.get("config", {})}
    described = json.dumps({name: value for name, value in fields.items() if value is not None})
    header = {"config": described, "provenance": change.get("provenance", "{}")}
    path = tmp_path / "old.safetensors"
    metadata = {name: text for name, text in header.items() if text is not None}
    save_file({name: t.contiguous() for name, t in GTPick(config).state_dict().items()}, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"old\.safetensors holds a network of another gtpick-rt version"):
        load_weights(path)


def test_weights_are_replaced_whole_or_not_at_all(
    config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, GTPick(config), {"steps": "1"})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            save_weights(path, GTPick(config), {"steps": "2"})
    assert load_weights(path)[1] == {"steps": "1"}
    assert list(tmp_path.iterdir()) == [path]


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def plain_pickle(thing: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(thing))


@pytest.mark.parametrize("save", [torch.save, plain_pickle])
def test_a_pickle_is_refused_and_not_run(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.safetensors", tmp_path / "mark"
    save({"config": Trap(mark)}, path)
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_weights(path)
    assert not mark.exists()


def test_the_configuration_stands_in_the_header(config: ModelConfig, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", GTPick(config), {})
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["dim"] == config.dim


def test_the_mean_has_its_share_of_each(config: ModelConfig) -> None:
    first, second = GTPick(config), GTPick(config)
    mean = mean_of([first, second], [0.25, 0.75])
    assert not mean.training
    for name, value in mean.state_dict().items():
        one, other = first.state_dict()[name], second.state_dict()[name]
        expected = 0.25 * one + 0.75 * other if value.is_floating_point() else one
        torch.testing.assert_close(value, expected)
        assert value.dtype == one.dtype
