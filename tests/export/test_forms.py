"""`gtpick-rt export --to FORM`: a folder that another program takes, and whose picks were compared
before it got its name.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from gtpick_export import release as releasing
from gtpick_export.forms import Made, export_form
from gtpick_model.tiles import libraries
from gtpick_rt.backends import cuda
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.cli.main import app
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof import parity
from gtpick_rt.proof.parity import Parity

GOOD = Parity(9, 0.0, reference_picks=100, picks=100, matched=100, drift_px=0.0, usual_drift_px=0.0, rows_alike=True)
ALWAYS = {"spec.json", "parity.json", "versions.json", "LICENSE", "SHA256SUMS"}
FILES = {
    "onnx": {"gtpick-nano.onnx", "prepare.onnx", "join.onnx"},
    "triton": {
        "gtpick-nano_micrographs/config.pbtxt",
        *(
            f"gtpick-nano{step}/{file}"
            for step in ("", "_prepare", "_join")
            for file in ("config.pbtxt", "1/model.onnx")
        ),
    },
    "openvino": {"gtpick-nano.xml", "gtpick-nano.bin"},
}
form = pytest.mark.parametrize("to", FILES)


@pytest.fixture(autouse=True)
def quick(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is picked in one of the eight ways, and no network is traced."""
    monkeypatch.setattr(parity, "views", lambda micrograph: [micrograph])
    monkeypatch.setattr(parity, "_ROWS", 2)
    small = libraries(None, 12, views=2, side=16)
    monkeypatch.setattr(releasing, "libraries", lambda *_, **__: small)
    monkeypatch.setattr(releasing, "TILES", 2)
    for precision in releasing.EXPORTS:
        monkeypatch.setitem(releasing.EXPORTS, precision, lambda network, spec, path: shutil.copy(exported.path, path))


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def here(to: str) -> None:
    """Skip where what writes the form is not installed."""
    if to == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install '.[openvino]')")


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@form
def test_a_form_is_a_folder_with_spec_proof_versions_licence_and_checksums(to: str, tmp_path: Path) -> None:
    here(to)
    out = tmp_path / "new" / to
    result = export("gtpick-nano", out, "--to", to)
    assert result.exit_code == 0, result.output
    assert content(out) == FILES[to] | ALWAYS
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    assert len((out / "SHA256SUMS").read_text().splitlines()) == len(FILES[to] | ALWAYS) - 1
    model = resolve_model("gtpick-nano")
    assert ModelSpec.from_json((out / "spec.json").read_text()) == read_spec(model)
    figures = json.loads((out / "parity.json").read_text())
    assert (figures["form"], figures["precision"], figures["reference"]) == (to, "fp32", "onnxruntime-cpu")
    assert figures["matched"] == figures["reference_picks"] == figures["picks"] > 200
    assert "onnxruntime" in json.loads((out / "versions.json").read_text())["packages"]
    assert "Apache License" in (out / "LICENSE").read_text()
    assert sorted(path.name for path in out.parent.iterdir()) == [to]


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """The model with every box two pixels to the right."""
    model = onnx.load(resolve_model(None))
    (last,) = (node for node in model.graph.node if "boxes" in node.output)
    last.output[list(last.output).index("boxes")] = "there"
    model.graph.node.append(onnx.helper.make_node("Add", ["there", "shift"], ["boxes"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 0, 0], np.float32), "shift"))
    onnx.save(model, tmp_path / "shifted.onnx")
    return tmp_path / "shifted.onnx"


@form
def test_a_form_that_picks_otherwise_is_refused_and_kept_aside(to: str, shifted: Path, tmp_path: Path) -> None:
    here(to)
    model, out, reference = resolve_model(None), tmp_path / "out", OnnxRuntimeCpu()
    spec = reference.open(model)
    precision = "fp16" if to == "onnx" else "fp32"
    with pytest.raises(UnlikeError, match=r"\.out\.unproven: does not pick as onnxruntime-cpu does"):
        export_form(to, Made(spec, model, shifted, precision), reference, out)
    assert not out.exists()
    assert json.loads((tmp_path / ".out.unproven" / "parity.json").read_text())["not_kept"]


def test_half_precision_lies_beside_single_as_pick_wants_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export("gtpick-nano", out, "--to", "onnx", "--precision", "fp16").exit_code == 0
    half = half_of(out / "gtpick-nano.onnx")
    assert half.read_bytes() == half_of(resolve_model("gtpick-nano")).read_bytes()
    assert json.loads((out / "parity.json").read_text())["max_score_error"] > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
def test_a_form_of_weights_is_measured_by_pytorch(
    precision: str, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(reference: Any, candidate: Any, spec: ModelSpec) -> Parity:
        compared.append((reference.name, candidate.name, spec.name, spec.version))
        return GOOD

    monkeypatch.setattr(releasing, "compare", lambda *_: GOOD)
    monkeypatch.setattr("gtpick_export.forms.compare", compare)
    options = ("--to", "onnx", "--name", "mine", "--version", "7", "--precision", precision)
    result = export(exported.weights, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert compared == [("torch", "onnxruntime-cpu", "mine", "7")]
    files = {"mine.onnx", "prepare.onnx", "join.onnx", *([] if precision == "fp32" else [f"mine.{precision}.onnx"])}
    assert content(tmp_path / "out") == ALWAYS | files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["gtpick-nano", "out", "--to", "coreml"],
            "--to coreml: choose one of onnx, triton, triton-plan, engine, openvino",
        ),
        (["gtpick-nano", "full", "--to", "onnx"], "full: is there already; choose a folder that is new or empty"),
        (["gtpick-nano", "out", "--to", "onnx", "--name", "mine"], "gtpick-nano has a name; give the weights"),
        (["gtpick-nano", "out", "--to", "onnx", "--precision", "int8"], "give weights.safetensors instead"),
        (["gtpick-nano", "out", "--to", "engine"], "--precision fp16"),
        (["absent.safetensors", "out", "--to", "onnx"], "absent.safetensors: there is no such file of weights"),
        (["absent.safetensors", "out.onnx"], "absent.safetensors: there is no such file of weights"),
        (["absent.onnx", "out", "--to", "onnx"], "no model 'absent.onnx'"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = export(*arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert content(tmp_path) == {"full/file"}


def test_a_name_that_is_no_name_for_a_file_is_refused(tmp_path: Path) -> None:
    model = onnx.load(resolve_model(None))
    spec = json.loads(read_spec(resolve_model(None)).to_json())
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**spec, "name": "../mine"})})
    onnx.save(model, tmp_path / "mine.onnx")
    result = export(tmp_path / "mine.onnx", tmp_path / "out", "--to", "triton")
    assert "'../mine': files and servers need a name of letters" in result.stderr
    assert content(tmp_path) == {"mine.onnx"}


def test_without_openvino_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = export("gtpick-nano", tmp_path / "out", "--to", "openvino")
    assert "install the extra openvino: pip install '.[openvino]'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_no_engine_is_made_and_the_way_out_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise BackendError("there is no GPU")

    monkeypatch.setattr(cuda, "current_gpu", none)
    result = export("gtpick-nano", tmp_path / "out", "--to", "engine", "--precision", "fp16")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no GPU; an engine is made on the GPU that runs it, and proved")
    assert not list(tmp_path.iterdir())
