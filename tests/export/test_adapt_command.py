"""`gtpick-rt adapt` writes a model that knows a specimen, where micrographs without labels can
teach one.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy.special import expit, logit
from typer.testing import CliRunner, Result

from gtpick_export import adapting
from gtpick_export import release as releasing
from gtpick_export.commands import adapt
from gtpick_export.to_onnx import make_spec
from gtpick_model import tiles
from gtpick_model.selftraining import Round
from gtpick_model.tiles import libraries
from gtpick_model.weights import load_weights, save_weights
from gtpick_rt import read_micrograph
from gtpick_rt.errors import UnadaptedError, UsageError
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.types import Picks

app = typer.Typer()
app.command()(adapt)
DIAMETER_A = 48.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of two short steps, between a few small particles."""
    small = libraries(None, 12, views=2, side=16)
    monkeypatch.setattr(adapting, "libraries", lambda *_, **__: small)
    monkeypatch.setattr(tiles, "libraries", lambda *_, **__: small)
    monkeypatch.setattr(adapting, "PACE", replace(adapting.PACE, steps=2, batch=4))
    monkeypatch.setattr(adapting, "ROUNDS", (Round(0.8, 2.5),) * 2)
    monkeypatch.setattr(adapting, "CAUTIOUS", (Round(0.6, 1.6),) * 2)
    for name in ("PROMISED_OF_SIMULATION", "ENOUGH", "KEPT"):
        monkeypatch.setattr(adapting, name, 0.0)


@pytest.fixture
def micrographs(noise: Callable[[int], list[Path]]) -> list[Path]:
    return noise(3)


Run = Callable[..., Result]


@pytest.fixture
def run(exported: Any, tmp_path: Path) -> Run:
    """A function that adapts the small network."""

    def adapt_to(micrographs: list[Path], *options: str) -> Result:
        command = [*map(str, micrographs), "--diameter", f"{DIAMETER_A:g}", "--out", str(tmp_path / "mine.onnx")]
        return CliRunner().invoke(app, [*command, "--weights", str(exported.weights), *options])

    return adapt_to


def test_the_model_can_pick_and_tells_what_it_was_made_from(
    run: Run, exported: Any, micrographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = releasing.release
    monkeypatch.setattr(releasing, "release", lambda *to: really(*to) if to[3] == "fp32" else "not in half precision")
    result = run(micrographs)
    assert result.exit_code == 0, result.output
    picker = open_picker(DIAMETER_A, model=str(tmp_path / "mine.onnx"))
    picker.pick(read_micrograph(micrographs[0]))
    provenance = picker.spec.provenance
    slope, offset = picker.spec.calibration
    raw = expit((logit(picker.spec.threshold) - offset) / slope)
    assert (picker.spec.name, raw) == ("mine", pytest.approx(adapting.RAW_THRESHOLD))
    assert hashlib.sha256(exported.weights.read_bytes()).hexdigest() in provenance["adapted_from"]
    assert provenance["base_steps"] == "0"
    assert (provenance["adapting_steps"], provenance["adapting_seed"]) == ("4", "0")
    assert set(provenance["micrographs"].split(", ")) == {"m0.mrc", "m1.mrc", "m2.mrc"}
    told = result.stdout.splitlines()
    assert told[0] == "learned from 3 micrographs, particles of 48 Å"
    changes = json.loads((tmp_path / "mine.json").read_text())
    assert [each["name"] for each in changes] == ["m0.mrc", "m1.mrc", "m2.mrc"]
    before, now = (sum(each["picks"][which] for each in changes) for which in (0, 1))
    assert told[1].startswith(f"picks on them: {before} before, {now} now")
    for each in changes:
        assert [score is None for score in each["median_score"]] == [count == 0 for count in each["picks"]]
    assert {"adapting, step 1 of 4", "adapting, step 4 of 4"} <= set(result.stderr.splitlines())


@pytest.mark.parametrize("key", ["adapted_from", "base_adapted_from"])
def test_a_network_that_has_adapted_itself_does_not_so_again(
    key: str, exported: Any, micrographs: list[Path], tmp_path: Path
) -> None:
    network, provenance = load_weights(exported.weights)
    adapted = tmp_path / "adapted.safetensors"
    save_weights(adapted, network, provenance | {key: "small.safetensors sha256 0"})
    with pytest.raises(UsageError, match=r"adapted\.safetensors: this network has adapted itself already"):
        adapting.adapt_to(map(read_micrograph, micrographs), adapted, DIAMETER_A, lambda *_: None)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENOUGH", 1e6, r"particles can be expected on 3 micrographs, and .* are needed to learn from"),
        (
            "PROMISED_OF_SIMULATION",
            1.1,
            r"promise an F1 of 0\.\d\d, and 1\.1 is needed: what is seen there may be no particles",
        ),
        ("KEPT", 1.1, r"of what it was sure of before, and 110% are needed, so it is not used"),
    ],
)
def test_what_teaches_nothing_or_the_wrong_thing_is_refused_and_nothing_is_written(
    name: str,
    value: float,
    words: str,
    run: Run,
    micrographs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapting, name, value)
    result = run(micrographs)
    assert isinstance(result.exception, UnadaptedError)
    with pytest.raises(UnadaptedError, match=words):
        raise result.exception
    assert list(tmp_path.glob("*.onnx")) == []


def test_the_scores_of_a_network_that_was_shown_real_micrographs_need_not_promise_as_much(
    exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "PROMISED_OF_SIMULATION", 0.7)
    network, provenance = load_weights(exported.weights)
    spec = make_spec(network, "small", "1", provenance)
    unsure = [Picks(np.zeros((200, 2), np.float32), np.ones(200, np.float32), np.full(200, 0.45, np.float32))]
    for key in ("real", "base_real", "base_base_real"):
        shown = replace(spec, provenance={key: "ice"})
        assert adapting._promised(unsure, shown) == pytest.approx(0.62, abs=0.01)
    with pytest.raises(UnadaptedError, match=r"promise an F1 of 0\.62, and 0\.7 is needed"):
        adapting._promised(unsure, spec)


def test_a_network_of_simulation_alone_is_taught_less(
    exported: Any, micrographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "PROMISED", 0.0)
    taught: list[Any] = []

    def note(*arguments: Any) -> Any:
        taught.append(arguments[6])
        raise UnadaptedError("seen enough")

    monkeypatch.setattr(adapting, "self_train", note)
    network, provenance = load_weights(exported.weights)
    for shown in ({}, {"real": "ice"}, {"base_real": "ice"}):
        weights = tmp_path / "shown.safetensors"
        save_weights(weights, network, provenance | shown)
        with pytest.raises(UnadaptedError, match="seen enough"):
            adapting.adapt_to([*map(read_micrograph, micrographs)], weights, DIAMETER_A, lambda *_: None)
    assert taught == [adapting.CAUTIOUS, adapting.ROUNDS, adapting.ROUNDS]
