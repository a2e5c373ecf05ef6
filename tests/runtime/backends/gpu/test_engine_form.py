"""`export --to engine` and `--to triton-plan` over a GPU of paper: built for the card that is here,
run on it, and refused where they pick otherwise.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_export.forms import Made, export_form
from gtpick_rt.backends.engines import building
from gtpick_rt.backends.engines.building import Built
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.inspecting import Layer
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.proof import parity
from gtpick_rt.types import FloatArray


@pytest.fixture
def reference() -> OnnxRuntimeCpu:
    backend = OnnxRuntimeCpu()
    backend.open(resolve_model(None))
    return backend


@pytest.fixture(autouse=True)
def library(trt: Any, reference: OnnxRuntimeCpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library whose plan the paper GPU runs, and that answers as the reference."""
    trt.answer, trt.__version__ = reference.infer, "11.4"
    built = Built(b"plan", [Layer("a", "CONVOLUTION", {"x": "HALF"})], b"", 1.0)
    monkeypatch.setattr(building, "build", lambda *_, **__: built)
    monkeypatch.setattr("gtpick_rt.backends.engines.libraries.find_spec", lambda module: module)
    monkeypatch.setattr("gtpick_rt.proof.engines.library", lambda name: trt)
    monkeypatch.setattr(parity, "views", lambda micrograph: [micrograph])
    monkeypatch.setattr(parity, "_ROWS", 2)
    return trt


def made(reference: OnnxRuntimeCpu) -> Made:
    model = resolve_model(None)
    return Made(reference.open(model), model, half_of(model), "fp16")


def test_an_engine_is_written_with_its_sealed_record_and_its_proof(
    reference: OnnxRuntimeCpu, trt: Any, tmp_path: Path, cache: EngineCache
) -> None:
    export_form("engine", made(reference), reference, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "gtpick-nano.engine").read_bytes() == b"plan"
    record = json.loads((out / "gtpick-nano.engine.json").read_text())["record"]
    assert (record["key"]["gpu"], record["key"]["version"]) == ("Paper GPU", "11.4")
    assert json.loads((out / "parity.json").read_text())["matched"] > 200
    assert not (trt.cudart.blocks or trt.cudart.queues or trt.alive)


def test_an_engine_that_picks_otherwise_is_refused(
    reference: OnnxRuntimeCpu, trt: Any, tmp_path: Path, cache: EngineCache
) -> None:
    def shifted(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, boxes = reference.infer(tiles)
        return scores, boxes + np.float32([2, 0, 0])

    trt.answer = shifted
    with pytest.raises(UnlikeError, match="does not pick as onnxruntime-cpu does"):
        export_form("engine", made(reference), reference, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_is_put_where_triton_takes_it_with_a_profile_for_each_size(
    reference: OnnxRuntimeCpu, trt: Any, tmp_path: Path, cache: EngineCache
) -> None:
    pytest.importorskip("tritonclient", reason="Triton's client is not installed (pip install '.[triton]')")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    out = tmp_path / "out"
    export_form("triton-plan", made(reference), reference, out)
    assert (out / "gtpick-nano" / "1" / "model.plan").read_bytes() == b"plan"
    assert not (out / "gtpick-nano" / "1" / "model.onnx").exists()
    config = text_format.Parse((out / "gtpick-nano" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    (group,) = config.instance_group
    assert (config.backend, list(group.profile)) == ("tensorrt", ["0", "1", "2", "3"])
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert (out / "gtpick-nano_join" / "1" / "model.onnx").exists()
    assert json.loads((out / "parity.json").read_text())["form"] == "triton-plan"
    assert not (trt.cudart.blocks or trt.cudart.queues or trt.alive)


def test_no_engine_is_made_for_a_card_that_is_too_old(
    reference: OnnxRuntimeCpu, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.backends.engines.records import Gpu

    monkeypatch.setattr("gtpick_rt.backends.cuda.current_gpu", lambda: Gpu("Old", (6, 1), "580.1"))
    with pytest.raises(BackendError, match=r"Old has compute capability 6\.1, and tensorrt needs 7\.5"):
        export_form("engine", made(reference), reference, tmp_path / "out")
