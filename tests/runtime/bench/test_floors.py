"""The floors under what `gtpick-rt bench` measures, and what a GPU takes, as a scripted NVML tells
it.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.bench import floors
from gtpick_rt.bench.energy import energy_meter
from gtpick_rt.bench.floors import flop_per_tile
from gtpick_rt.bench.measuring import measure
from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.cli.main import app
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.proof import opening
from gtpick_rt.proof.opening import open_picker

ROOT = Path(__file__).resolve().parents[3]
BUS = b"0000:3b:00.0"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are of small products and copies."""
    monkeypatch.setattr(floors, "SIDE", 64)
    monkeypatch.setattr(floors, "COPIED_BYTES", 1 << 16)


def bench(model: Path, json_file: Path) -> tuple[str, dict[str, Any]]:
    options = ["--count", "3", "--rounds", "1", "--side", "320x256", "--diameter", "40"]
    result = CliRunner().invoke(app, ["bench", *options, "--model", str(model), "--json", str(json_file)])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split()), json.loads(json_file.read_text())


def test_floors_are_of_one_micrograph_and_compared_with_the_pipeline(tmp_path: Path) -> None:
    model = resolve_model(None)
    text, found = bench(model, tmp_path / "b.json")
    spec, file_bytes = read_spec(model), 1024 + 2 * 320 * 256
    tensors = found["tiles"] * 4 * (spec.tile_px**2 + 4 * spec.queries)
    assert {name: floor["amount"] for name, floor in found["floors"].items()} == {
        "flop": found["tiles"] * flop_per_tile(model, spec),
        "bytes": tensors + file_bytes + model.stat().st_size,
        "storage": file_bytes,
    }
    for name, floor in found["floors"].items():
        assert floor["per_s"] > 0
        assert floor["seconds"] == pytest.approx(floor["amount"] / floor["per_s"])
        pipeline_s = found["pipeline_cold_s" if name == "storage" else "pipeline_s"]
        assert floor["share"] == pytest.approx(floor["seconds"] / pipeline_s)
    assert "floor of flop" in text
    assert f"{found['floors']['storage']['share']:.1%} (" in text
    assert "energy_J" not in found
    assert " J for each micrograph" not in text


def test_operations_are_counted_by_the_shapes_that_there_are(tmp_path: Path) -> None:
    weights = {"kernels": (4, 1, 3, 3), "matrix": (256, 5), "square": (3, 5)}
    nodes = [
        helper.make_node("Conv", ["tiles", "kernels"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["maps"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["five"]),
        helper.make_node("Gemm", ["five", "square"], ["three"], transB=1),
        helper.make_node("Relu", ["three"], ["out"]),
    ]
    tensors = [helper.make_tensor_value_info(*each) for each in (("tiles", 1, ["n", 1, 8, 8]), ("out", 1, ["n", 3]))]
    initial = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], initial)
    assert TensorProto.FLOAT == 1
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    spec: Any = SimpleNamespace(input_name="tiles", tile_px=8)
    assert flop_per_tile(tmp_path / "m.onnx", spec) == 2 * (9 * 64 * 4 + 256 * 5 + 5 * 3)


def test_the_shipped_network_has_the_operations_that_pytorch_counts() -> None:
    """Position codes are worked out when it is exported: two per cent."""
    sizes = json.loads((ROOT / "benchmarks" / "speed" / "results" / "model_size.json").read_text())
    model = resolve_model("gtpick-nano")
    assert flop_per_tile(model, read_spec(model)) == pytest.approx(sizes["variants"]["nano"]["flop_per_tile"], rel=0.03)


class Nvml:
    """NVML as far as it is asked: a card that takes half a joule between two questions."""

    class NVMLError(Exception):
        pass

    def __init__(self, fails: str = "") -> None:
        self.fails, self.millijoules = fails, 7000

    def _call(self, name: str) -> None:
        if name == self.fails:
            raise self.NVMLError(name)

    def nvmlInit(self) -> None:
        self._call("init")

    def nvmlDeviceGetHandleByPciBusId(self, bus: bytes) -> str:
        self._call("handle")
        assert bus == BUS
        return "card"

    def nvmlDeviceGetTotalEnergyConsumption(self, card: str) -> int:
        self._call("energy")
        assert card == "card"
        self.millijoules += 500
        return self.millijoules


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """A library, and a GPU for it."""
    scripted = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", scripted)  # type: ignore[arg-type]
    monkeypatch.setattr(Cuda, "__init__", lambda self: None)
    monkeypatch.setattr(Cuda, "pci_bus_id", lambda self: BUS)
    return scripted


def test_joules_are_those_of_the_card_that_backends_run_on(nvml: Nvml) -> None:
    meter = energy_meter()
    assert meter is not None
    assert meter() == 8.0  # after one question to see whether it is answered
    assert meter() == 8.5


@pytest.mark.parametrize("fails", ["init", "handle", "energy"])
def test_where_nvml_does_not_tell_there_is_no_meter(fails: str, nvml: Nvml) -> None:
    nvml.fails = fails
    assert energy_meter() is None


def test_without_the_library_or_a_gpu_there_is_no_meter(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Cuda) -> bytes:
        raise BackendError("there is no GPU")

    monkeypatch.setattr(Cuda, "pci_bus_id", absent)
    assert energy_meter() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_meter() is None


def test_energy_is_of_each_further_micrograph(tiny_model: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, 4, 200, 300, 40)
    asked = iter(range(0, 1000, 5))
    with open_picker(40, model=str(tiny_model), backend="cpu") as picker:
        speed = measure(picker, find_jobs([str(tmp_path)]).jobs, rounds=1, meter=lambda: float(next(asked)))
    assert speed.energy_J == 5


@pytest.mark.parametrize("server", [False, True])
def test_beside_a_gpu_energy_is_told_and_the_processors_floors_are_not(
    server: bool, nvml: Nvml, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_gpu(*arguments: Any, **options: Any) -> Any:
        picker = open_picker(*arguments, **options | {"backend": "cpu"})
        picker.backend.on_cpu = False
        return picker

    monkeypatch.setattr(opening, "open_picker", on_gpu)
    options = ["--backend", "triton", "--url", "node:8001"] if server else []
    options += ["--count", "2", "--rounds", "1", "--side", "320x256", "--diameter", "40", "--model", str(tiny_model)]
    result = CliRunner().invoke(app, ["bench", *options, "--json", str(tmp_path / "b.json")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "b.json").read_text())
    assert list(found["floors"]) == ["storage"]
    assert found.get("energy_J") == (None if server else 0.5)
    assert ("The GPU takes 0.5 J for each micrograph" in " ".join(result.output.split())) is not server
