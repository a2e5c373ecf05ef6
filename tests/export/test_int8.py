"""The 8-bit file: quantised as TensorRT's parsers take it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from gtpick_export.int8 import quantise
from gtpick_export.to_onnx import _check, write_model
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.types import FloatArray


@pytest.fixture(scope="module")
def model(exported: Any, tiles: FloatArray) -> onnx.ModelProto:
    """The small network in 8 bits."""
    return quantise(onnx.load(exported.path), OnnxRuntimeCpu().open(exported.path), tiles)


@pytest.fixture(scope="module")
def weights(model: onnx.ModelProto) -> dict[str, Any]:
    return {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}


def test_the_graph_keeps_to_the_standard(model: onnx.ModelProto) -> None:
    _check(model)


def test_every_quantisation_is_symmetric_and_of_8_bits(model: onnx.ModelProto, weights: dict[str, Any]) -> None:
    found = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(found) > 20
    for node in found:
        zero = weights[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any(), node.name


def test_biases_are_not_quantised(model: onnx.ModelProto) -> None:
    """TensorRT's parsers refuse the int32 biases that ONNX Runtime would make."""
    assert not [w.name for w in model.graph.initializer if w.data_type == TensorProto.INT32]


def test_weights_are_scaled_by_output_channel(model: onnx.ModelProto, weights: dict[str, Any]) -> None:
    written = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions:
        dequantised = written[node.input[1]]
        assert weights[dequantised.input[1]].shape == (weights[written[dequantised.input[0]].input[0]].shape[0],)
    assert convolutions


def test_convolutions_are_quantised_and_products_of_matrices_are_not(model: onnx.ModelProto) -> None:
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for kind, expected in (("Conv", 2), ("MatMul", 0)):  # the image and the weights
        counts = {len(dequantised & set(node.input)) for node in model.graph.node if node.op_type == kind}
        assert counts == {expected}, kind


def test_the_file_still_finds_what_the_network_finds(
    exported: Any, model: onnx.ModelProto, tiles: FloatArray, tmp_path: Path
) -> None:
    reference, backend = OnnxRuntimeCpu(), OnnxRuntimeCpu()
    spec = reference.open(exported.path)
    write_model(model, spec, tmp_path / "tiny.int8.onnx")
    assert backend.open(tmp_path / "tiny.int8.onnx") == spec
    wanted, found = (np.sort(each.infer(tiles)[0]) for each in (reference, backend))
    assert np.abs(found - wanted).mean() < 0.05
