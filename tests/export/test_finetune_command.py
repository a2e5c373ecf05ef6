"""`gtpick-rt finetune` writes one model that `gtpick-rt pick` takes, and says what it is worth."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gtpick_export import finetuning
from gtpick_export import release as releasing
from gtpick_export.commands import finetune
from gtpick_export.to_onnx import make_spec
from gtpick_model import finetune as tuning
from gtpick_model import tiles
from gtpick_model.tiles import libraries
from gtpick_model.weights import load_weights
from gtpick_rt import read_micrograph
from gtpick_rt.errors import ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.opening import open_picker

app = typer.Typer()
app.command()(finetune)
DIAMETER_A = 48.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short steps, between a few small particles."""
    small = libraries(None, 12, views=2, side=16)
    monkeypatch.setattr(tiles, "libraries", lambda *_, **__: small)
    monkeypatch.setattr(tuning, "PACE", replace(tuning.PACE, steps=2, batch=4))


@pytest.fixture
def micrographs(tmp_path: Path, noise: Callable[[int], list[Path]]) -> list[Path]:
    """Four micrographs of noise, each with labels."""
    paths = noise(4)
    (tmp_path / "labels").mkdir()
    for path in paths:
        (tmp_path / "labels" / f"{path.stem}.csv").write_text("x,y\n40,50\n100,90\n130,30\n")
    return paths


Run = Callable[..., Result]


@pytest.fixture
def run(exported: Any, tmp_path: Path) -> Run:
    """A function that fine-tunes the small network."""

    def finetune_these(micrographs: list[Path], *options: str) -> Result:
        command = [*map(str, micrographs), "--labels", str(tmp_path / "labels"), "--diameter", f"{DIAMETER_A:g}"]
        command += ["--out", str(tmp_path / "mine.onnx"), "--weights", str(exported.weights), *options]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return finetune_these


def test_the_model_can_pick_and_tells_what_it_was_made_from(
    run: Run, exported: Any, micrographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = releasing.release
    monkeypatch.setattr(releasing, "release", lambda *to: really(*to) if to[3] == "fp32" else "not in half precision")
    text = run(micrographs[:2]).stdout
    picker = open_picker(DIAMETER_A, model=str(tmp_path / "mine.onnx"))
    picker.pick(read_micrograph(micrographs[0]))
    provenance = picker.spec.provenance
    assert picker.spec.name == "mine"
    assert hashlib.sha256(exported.weights.read_bytes()).hexdigest() in provenance["finetuned_from"]
    assert (provenance["labels"], provenance["micrographs"], provenance["base_steps"]) == ("3", "m0.mrc", "0")
    assert f"at threshold {picker.spec.threshold:.2f}" in text.split("after")[1]


@pytest.fixture
def exported_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "release", lambda *_: "nothing")


def test_the_weights_are_kept_before_anything_can_fail_and_give_the_same_spec(
    run: Run, micrographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, specs = tmp_path / "mine.safetensors", []

    def release(network: object, spec: ModelSpec, *_: object) -> None:
        assert weights.is_file()
        specs.append(spec)

    monkeypatch.setattr(releasing, "release", release)
    run(micrographs[:2])
    network, trained = load_weights(weights)
    again = make_spec(network, "mine", "1", trained)
    assert again.threshold == pytest.approx(specs[0].threshold, abs=1e-4)
    assert (again.diameter_px, again.tile_px) == (specs[0].diameter_px, specs[0].tile_px)
    assert again.calibration == pytest.approx(specs[0].calibration, abs=1e-4)
    assert again.provenance.items() >= specs[0].provenance.items()


@pytest.mark.usefixtures("exported_unseen")
def test_before_and_after_are_printed_for_what_was_held_out(run: Run, micrographs: list[Path]) -> None:
    text = run(micrographs[:2], "--complete").stdout
    assert "learning from 3 labels on m0.mrc; what has no label is learned as background" in text
    assert "held out, every pick without a label counted as wrong: m1.mrc" in text
    rows = [line for line in text.splitlines() if line.startswith(("before", "after"))]
    assert len(rows) == 2
    assert all("precision" in row and "recall" in row and "F1" in row for row in rows)


@pytest.mark.usefixtures("exported_unseen")
def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(run: Run, micrographs: list[Path]) -> None:
    result = run(micrographs[:2])
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        "loading PyTorch and the network ...",
        "looking at 2 micrographs to tell dark particles from bright ones ...",
    ]
    assert lines[2] == "picking with the network as it is, micrograph 1 of 1"
    assert {"fine-tuning, step 1 of 2", "fine-tuning, step 2 of 2"} <= set(lines)
    assert "step" not in result.stdout


def test_the_first_line_comes_before_pytorch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gtpick_export.to_onnx", None)
    result = CliRunner().invoke(app, ["m.mrc", "--labels", ".", "--diameter", "48", "--out", "mine.onnx"])
    assert isinstance(result.exception, ImportError)
    assert result.stderr == "loading PyTorch and the network ...\n"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (None, "what has no label is learned as background"),
        (0.6, "about 8 particles there without a label, it seems, so what looks like one is not learned as background"),
    ],
)
def test_it_is_told_how_many_particles_seem_to_have_a_label(share: float | None, words: str) -> None:
    learned = {"labels": "12", "micrographs": "a.mrc"}
    assert finetuning.told(learned, share).startswith(f"learning from 12 labels on a.mrc; {words}")


@pytest.mark.usefixtures("exported_unseen")
def test_micrographs_without_labels_are_learned_from_after_those_that_have_some(
    run: Run, micrographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[int] = []
    really = finetuning.adapt

    def note(network: Any, images: Any, *arguments: Any) -> Any:
        taught.append(len(images))
        return really(network, images, *arguments)

    monkeypatch.setattr(finetuning, "adapt", note)
    unlabelled = [word for path in micrographs[2:] for word in ("--unlabelled", str(path))]
    result = run(micrographs[:2], *unlabelled)
    assert taught == [1, 3]
    assert {"fine-tuning, step 1 of 4", "fine-tuning, step 4 of 4"} <= set(result.stderr.splitlines())


@pytest.mark.parametrize("accurate", [True, False])
def test_half_precision_comes_beside_the_model_if_it_picks_alike(
    accurate: bool, run: Run, micrographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = []

    def release(network: object, spec: object, out: Path, precision: str, on_tile: object) -> str:
        if precision == "fp16" and not accurate:
            raise ModelError("half of the picks are lost")
        released.append((out.name, precision))
        return "many tiles"

    monkeypatch.setattr(releasing, "release", release)
    result = run(micrographs[:2])
    assert released == [("mine.onnx", "fp32"), ("mine.fp16.onnx", "fp16")][: 1 + accurate]
    assert "mine.onnx: compared with PyTorch on many tiles" in result.stdout
    assert ("mine.fp16.onnx: compared with PyTorch on many tiles" in result.stdout) == accurate
    refusal = "GPUs cannot run this model, for it is not to be had in half precision: half of the picks are lost"
    assert (refusal in result.stderr) != accurate


@pytest.mark.usefixtures("exported_unseen")
def test_of_one_micrograph_a_part_is_held_out(run: Run, micrographs: list[Path], tmp_path: Path) -> None:
    labels = tmp_path / "labels" / "m0.csv"
    labels.write_text("x,y\n40,50\n100,130\n")
    assert "counted as wrong: the last quarter of m0.mrc" in run(micrographs[:1], "--labels", str(labels)).stdout


def test_missing_weights_of_the_shipped_model_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "TRAINED", tmp_path)
    with pytest.raises(ModelError, match=r"gtpick-nano\.safetensors: the weights .* --weights FILE"):
        finetuning.shipped_weights()
