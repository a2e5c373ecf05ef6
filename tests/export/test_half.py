"""The half-precision file: every tensor has its type, float32 stays where it must, and the picks
are the same.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from gtpick_export.half import export_half, half_share, to_half
from gtpick_model.heads import DetectionHead
from gtpick_model.network import Inference
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.models.files import DEFAULT_MODEL, half_of, shipped_models
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.proof.parity import compare
from gtpick_rt.types import FloatArray

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def path(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network in half precision."""
    path = tmp_path_factory.mktemp("half") / "tiny.fp16.onnx"
    spec = OnnxRuntimeCpu().open(exported.path)
    export_half(exported.network, spec, path)
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)


@pytest.fixture(scope="module")
def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor by name."""
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {w.name: w.data_type for w in graph.initializer}


def nodes(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    found = [node for node in model.graph.node if node.op_type in kinds]
    assert found, f"no {kinds} in the graph"
    return found


def test_every_tensor_has_a_type(model: onnx.ModelProto, kinds: dict[str, int]) -> None:
    written = {name for node in model.graph.node for name in node.output if name}
    assert {name for name in written if not kinds.get(name)} == set()


def test_what_goes_in_and_comes_out_is_float32(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == FLOAT, value.name


@pytest.mark.parametrize("kind", ["Conv", "Softmax", "LayerNormalization", "Resize"])
def test_the_body_computes_in_half_precision(kind: str, model: onnx.ModelProto, kinds: dict[str, int]) -> None:
    for node in nodes(model, kind):
        assert kinds[node.input[0]] == kinds[node.output[0]] == HALF, node.name


@pytest.mark.parametrize("kind", ["TopK", "Sigmoid", "Sin", "Cos", "Tanh", "Exp"])
def test_positions_choices_and_answers_are_float32(kind: str, model: onnx.ModelProto, kinds: dict[str, int]) -> None:
    for node in nodes(model, kind):
        assert kinds[node.input[0]] == FLOAT, node.name


def test_layer_normalisation_is_one_node_with_statistics_in_float32(exported: Any, model: onnx.ModelProto) -> None:
    found = nodes(model, "LayerNormalization")
    unused = 1  # the norm before the head of every decoder layer but the last
    layers = sum(isinstance(module, nn.LayerNorm) for module in exported.network.modules())
    assert len(found) == layers - unused
    for node in found:
        stash = {a.name: a.i for a in node.attribute}.get("stash_type", 1)
        assert stash == FLOAT, node.name


def test_no_constant_is_beyond_half_precision(model: onnx.ModelProto) -> None:
    attributes = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*model.graph.initializer, *attributes):
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.data_type in (FLOAT, HALF):
            assert np.abs(values).max(initial=0) < np.finfo(np.float16).max, tensor.name


def test_most_tensors_are_half_in_the_half_file_and_none_in_the_other(exported: Any, model: onnx.ModelProto) -> None:
    assert half_share(onnx.load(exported.path)) == 0
    assert half_share(model) > 0.6


def test_both_files_carry_the_same_spec(exported: Any, path: Path) -> None:
    assert OnnxRuntimeCpu().open(path) == OnnxRuntimeCpu().open(exported.path)


def test_both_files_answer_alike(exported: Any, path: Path, tiles: FloatArray) -> None:
    answers = []
    for file in (exported.path, path):
        backend = OnnxRuntimeCpu()
        backend.open(file)
        answers.append(backend.infer(tiles))
    (scores, boxes), (half_scores, half_boxes) = answers
    np.testing.assert_allclose(np.sort(half_scores), np.sort(scores), atol=0.01)
    for i in range(len(tiles)):  # the same box for the same score, whatever the order of the queries
        sure = np.argsort(scores[i])[-5:]
        near = np.linalg.norm(half_boxes[i][None, :, :2] - boxes[i][sure, None, :2], axis=-1).min(axis=1)
        assert near.max() < 0.25


def test_the_file_that_ships_picks_as_the_shipped_model() -> None:
    model = shipped_models().get(DEFAULT_MODEL)
    if model is None:
        pytest.skip("no model ships in gtpick_rt/models")
    (reference, spec), (half, half_spec) = (open_backend("cpu", path) for path in (model, half_of(model)))
    assert half_spec == spec
    parity = compare(reference, half, spec)
    assert parity.reference_picks > 1800
    assert parity.holds, str(parity)
    assert parity.drift_px < 0.01


def test_a_network_in_half_precision_is_a_copy(exported: Any, tiles: FloatArray) -> None:
    network = exported.network
    inference = Inference(network)
    with torch.no_grad():
        before = inference(torch.from_numpy(tiles))[0]
        half = to_half(network)
        after = inference(torch.from_numpy(tiles))[0]
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    in_heads = {id(p) for m in half.modules() if isinstance(m, DetectionHead) for p in m.parameters()}
    for name, parameter in half.named_parameters():
        assert parameter.dtype == (torch.float32 if id(parameter) in in_heads else torch.float16), name
    assert not any(isinstance(module, nn.BatchNorm2d) for module in half.modules())


def test_batch_normalisation_is_folded_before_half_precision_can_overflow(exported: Any, tiles: FloatArray) -> None:
    """A layer whose variance no float16 holds."""
    network = copy.deepcopy(exported.network)
    first = network.backbone.to_4[0]
    with torch.no_grad():
        first[0].weight.mul_(2e3)
        first[1].running_mean.mul_(2e3)
        first[1].running_var.mul_(4e6)
    assert first[1].running_var.max() > torch.finfo(torch.float16).max
    with torch.no_grad():
        wanted = Inference(network)(torch.from_numpy(tiles))[0]
        found = Inference(to_half(network))(torch.from_numpy(tiles))[0]
    torch.testing.assert_close(found.sort().values, wanted.sort().values, rtol=0, atol=0.02)
