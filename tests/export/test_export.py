"""The exported file: standard operators alone, one file, any batch, and a spec that the runtime
reads.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from gtpick_export.to_onnx import OPSET, _check, make_spec, unequal_parts
from gtpick_model.network import GTPick, Inference
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.errors import ModelError
from gtpick_rt.models.files import half_of, resolve_model
from gtpick_rt.models.spec import METADATA_KEY
from gtpick_rt.types import FloatArray

UNCALIBRATED = {"threshold": "0.5", "calibration_slope": "1", "calibration_offset": "0"}


@pytest.fixture(scope="module")
def model(exported: Any) -> onnx.ModelProto:
    return onnx.load(exported.path, load_external_data=False)


def test_the_model_is_one_file(exported: Any, model: onnx.ModelProto) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["tiny.onnx"]
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
    weights = sum(p.numel() for p in exported.network.parameters())
    assert sum(int(np.prod(t.dims)) for t in model.graph.initializer) > 0.9 * weights


def test_the_graph_uses_one_opset_and_standard_operators(model: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [
        ("", OPSET)
    ]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)


def test_batch_normalisation_is_folded_away(model: onnx.ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_the_spec_is_the_only_metadata(model: onnx.ModelProto) -> None:
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    graph = model.graph
    assert not any(part.metadata_props for part in (graph, *graph.node, *graph.value_info, *graph.initializer))


def test_the_file_does_not_tell_where_it_was_made(exported: Any) -> None:
    assert str(Path(__file__).parents[2]).encode() not in exported.path.read_bytes()


def test_positions_are_constants(model: onnx.ModelProto) -> None:
    """Only the code of the queries' positions depends on the tile."""
    assert [node.op_type for node in model.graph.node].count("Sin") == 1


def test_the_runtime_reads_the_spec_that_was_written(exported: Any) -> None:
    spec = OnnxRuntimeCpu().open(exported.path)
    config = exported.network.config
    assert spec == make_spec(exported.network, "tiny", "7", spec.provenance)
    assert (spec.name, spec.version) == ("tiny", "7")
    assert (spec.tile_px, spec.queries) == (96, 24)
    assert spec.threshold == 0.5
    assert (spec.diameter_px, spec.highpass_px, spec.clip) == (
        config.nominal_diameter_px,
        config.highpass_px,
        config.clip,
    )
    assert spec.provenance["steps"] == "0"


def test_the_command_proves_parity(exported: Any) -> None:
    assert "opset 18, dynamic batch, default threshold 0.50" in exported.report
    assert "compared with PyTorch on 64 tiles" in exported.report
    assert " picks agree; scores differ by at most " in exported.report


@pytest.mark.parametrize("n", [1, 3])
def test_the_file_answers_batches_of_any_size_as_the_network(n: int, exported: Any, tiles: FloatArray) -> None:
    backend = OnnxRuntimeCpu()
    backend.open(exported.path)
    scores, boxes = backend.infer(tiles[:n])
    assert scores.shape == (n, 24)
    assert boxes.shape == (n, 24, 3)
    with torch.no_grad():
        wanted_scores, wanted_boxes = (x.numpy() for x in Inference(exported.network)(torch.from_numpy(tiles[:n])))
    np.testing.assert_allclose(np.sort(scores), np.sort(wanted_scores), atol=1e-4)
    for i in range(n):  # the same box for the same score, whatever the order of the queries
        np.testing.assert_allclose(
            boxes[i][np.argsort(scores[i])], wanted_boxes[i][np.argsort(wanted_scores[i])], atol=0.05
        )


def identity(domain: str = "", opset: int = OPSET) -> onnx.ModelProto:
    """A model of one node."""
    make = onnx.helper
    value = (make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    graph = make.make_graph([make.make_node("Identity", ["x"], ["y"], domain=domain)], "one", *([v] for v in value))
    imports = [make.make_opsetid("", opset), *([make.make_opsetid(domain, 1)] if domain else [])]
    return make.make_model(graph, opset_imports=imports, ir_version=10)


def test_a_standard_graph_passes_the_check() -> None:
    _check(identity())


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_graph_with_a_constant_that_is_not_finite_is_refused(value: float) -> None:
    model = identity()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, value], np.float32), "wild"))
    with pytest.raises(ModelError, match=r"must be finite, these are not: wild"):
        _check(model)


@pytest.mark.parametrize(
    ("graph", "message"),
    [({"domain": "com.microsoft"}, "com.microsoft"), ({"opset": 17}, "17"), ({"opset": 21}, "21")],
)
def test_graphs_that_tensorrt_may_misread_are_refused(graph: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _check(identity(**graph))


def concatenation(*sizes: int) -> onnx.ModelProto:
    """A model that joins tensors of so many columns."""
    make = onnx.helper
    names = [f"x{i}" for i in range(len(sizes))]
    values = [
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in zip([*names, "y"], [*sizes, sum(sizes)], strict=True)
    ]
    node = make.make_node("Concat", names, ["y"], "join", axis=1)
    graph = make.make_graph([node], "join", values[:-1], values[-1:])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=10)


def test_a_graph_that_joins_unequal_parts_is_refused() -> None:
    _check(concatenation(2, 2))
    with pytest.raises(ModelError, match=r"unequal parts.*: join; choose by column"):
        _check(concatenation(2, 1))


@pytest.mark.parametrize("path", [resolve_model(None), half_of(resolve_model(None))], ids=lambda path: path.name)
def test_the_shipped_files_join_equal_parts_alone(path: Path) -> None:
    assert unequal_parts(onnx.load(path)) == []


def test_a_network_whose_threshold_lies_below_the_floor_can_be_exported(exported: Any) -> None:
    """Training's best threshold may be as low as the metrics' own floor."""
    weak = make_spec(exported.network, "weak", "1", UNCALIBRATED | {"threshold": "0.0300"})
    assert weak.floor == weak.threshold == pytest.approx(0.03)


def test_the_threshold_is_calibrated_as_the_scores_are(exported: Any) -> None:
    provenance = {"threshold": "0.4", "calibration_slope": "2.0", "calibration_offset": "1.0"}
    spec = make_spec(exported.network, "calibrated", "1", provenance)
    assert spec.calibration == (2.0, 1.0)
    assert spec.threshold == pytest.approx(float(calibrate(np.array([0.4], np.float32), spec)[0]), abs=1e-6)
    assert spec.threshold == pytest.approx(0.547, abs=1e-3)


def test_a_tile_too_small_for_its_margins_is_refused(exported: Any) -> None:
    small = GTPick(replace(exported.network.config, tile_px=64))
    with pytest.raises(ModelError, match="leaves no core"):
        make_spec(small, "small", "1", UNCALIBRATED | {"threshold": "0.5"})
