"""The file in 8-bit floating point: what int8 quantises, in the same ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from gtpick_export.fp8 import LARGEST, LARGEST_INT8, OPSET, to_fp8
from gtpick_export.int8 import quantise
from gtpick_export.to_onnx import to_graph, write_model
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray


@pytest.fixture(scope="module")
def spec(exported: Any) -> ModelSpec:
    return OnnxRuntimeCpu().open(exported.path)


@pytest.fixture(scope="module")
def both(exported: Any, spec: ModelSpec, tiles: FloatArray) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The small network in int8, and in E4M3."""
    model = quantise(to_graph(exported.network, spec, OPSET), spec, tiles)
    return model, to_fp8(model)


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {each.name: each for each in model.graph.initializer}


def test_every_quantisation_is_of_these_numbers_in_the_ranges_of_int8(
    both: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    before, after = map(constants, both)
    found = [node for node in both[1].graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(found) > 20
    for node in found:
        assert after[node.input[2]].data_type == TensorProto.FLOAT8E4M3FN
        was, now = (onnx.numpy_helper.to_array(each[node.input[1]]) for each in (before, after))
        np.testing.assert_allclose(now * LARGEST, was * LARGEST_INT8, rtol=1e-6)


def test_no_relu_is_left_that_onnx_runtime_would_leave_out(both: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    before, after = ([node.op_type for node in model.graph.node] for model in both)
    assert before.count("Relu") == after.count("Max") - before.count("Max") > 0
    assert "Relu" not in after


def test_the_file_still_finds_what_the_network_finds(
    exported: Any,
    both: tuple[onnx.ModelProto, onnx.ModelProto],
    spec: ModelSpec,
    tiles: FloatArray,
    tmp_path: Path,
) -> None:
    reference, backend = OnnxRuntimeCpu(), OnnxRuntimeCpu()
    reference.open(exported.path)
    write_model(both[1], spec, tmp_path / "tiny.fp8.onnx", OPSET)
    assert backend.open(tmp_path / "tiny.fp8.onnx") == spec
    wanted, found = (np.sort(each.infer(tiles)[0]) for each in (reference, backend))
    assert np.abs(found - wanted).mean() < 0.05
