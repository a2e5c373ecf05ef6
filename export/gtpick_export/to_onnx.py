"""From a trained network to one ONNX file that says itself how it is to be run."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxscript.optimizer import optimize
from scipy.special import expit, logit

from gtpick_model.metrics import DUPLICATE
from gtpick_model.network import GTPick, Inference
from gtpick_model.simulator.field import Conditions
from gtpick_rt.errors import ModelError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec

OPSET = 18
"""Newer opsets rename GridSample modes and fuse attention into nodes that TensorRT's parsers refuse
or misread."""
FOLDED = 1 << 20
"""Numbers in the largest constant worked out here: position codes, which not every engine can work
out in float16."""
MARGIN_PX = 32
"""Rim of a tile left to its neighbours: more than one nominal diameter."""
FLOOR = 0.05


def make_spec(network: GTPick, name: str, version: str, provenance: dict[str, str]) -> ModelSpec:
    """The spec of a trained network; working scale, threshold and calibration come from what was
    left out of its training.
    """
    config = network.config
    diameter_px = float(provenance.get("diameter_px", config.nominal_diameter_px))
    a, b = float(provenance["calibration_slope"]), float(provenance["calibration_offset"])
    threshold = float(expit(a * logit(float(provenance["threshold"])) + b))
    return ModelSpec(
        name=name,
        version=version,
        tile_px=config.tile_px,
        margin_px=MARGIN_PX,
        queries=config.queries_for(config.tile_px),
        diameter_px=diameter_px,
        diameter_range_px=Conditions().extent_px,
        highpass_px=config.highpass_px,
        clip=config.clip,
        merge_distance=DUPLICATE,
        calibration=(a, b),
        threshold=threshold,
        floor=min(FLOOR, threshold),
        provenance=provenance,
    )


def trained_as(spec: ModelSpec) -> dict[str, str]:
    """What must stand beside weights so that `make_spec` gives this spec again."""
    a, b = spec.calibration
    figures = {
        "threshold": float(expit((logit(spec.threshold) - b) / a)),
        "calibration_slope": a,
        "calibration_offset": b,
        "diameter_px": spec.diameter_px,
    }
    return spec.provenance | {name: f"{value:.6f}" for name, value in figures.items()}


def export_onnx(network: GTPick, spec: ModelSpec, path: Path) -> None:
    """Write the network as one ONNX file with a dynamic batch and the spec in its metadata.

    Raises ModelError.
    """
    write_model(to_graph(network, spec), spec, path)


def to_graph(network: GTPick, spec: ModelSpec, opset: int = OPSET) -> onnx.ModelProto:
    """Trace inference, in the precision of the network's weights, with a dynamic batch."""
    tiles = torch.zeros(2, 1, spec.tile_px, spec.tile_px)
    with _quiet():
        program = torch.onnx.export(
            Inference(network.cpu()).eval(),
            (tiles,),
            input_names=[spec.input_name],
            output_names=[spec.score_name, spec.box_name],
            dynamic_shapes={"tiles": {0: torch.export.Dim("batch", min=1, max=1024)}},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph: onnx.ModelProto = optimize(program.model_proto, input_size_limit=FOLDED, output_size_limit=FOLDED)
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what PyTorch says of its own parts: a torchvision that is not needed, and what it
    will have to change itself.
    """
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        log.setLevel(before)


def write_model(model: onnx.ModelProto, spec: ModelSpec, path: Path, opset: int = OPSET) -> None:
    """Write a network as `write_graph` does, with the spec as its only metadata. Raises
    ModelError.
    """
    write_graph(model, {METADATA_KEY: spec.to_json()}, path, opset)


def write_graph(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path, opset: int = OPSET) -> None:
    """Write a graph as one file that holds no other metadata.

    PyTorch notes in it where our source files lie.

    Raises:
        ModelError: the graph needs operators outside the standard ONNX domain or another opset, has
            a constant that is not finite, or joins or splits tensors in unequal parts.
    """
    _check(model, opset)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    write_atomic(path, model.SerializeToString())


def _check(model: onnx.ModelProto, opset: int = OPSET) -> None:
    onnx.checker.check_model(model, full_check=True)
    opsets = {entry.domain: entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if used or set(opsets.values()) != {opset}:
        raise ModelError(f"the exported graph must use opset {opset} alone, found opsets {opsets} and domains {used}")
    constants = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]
    wild = [tensor.name for tensor in constants if not np.isfinite(onnx.numpy_helper.to_array(tensor)).all()]
    if wild:
        raise ModelError(f"constants of the exported graph must be finite, these are not: {', '.join(wild)}")
    if uneven := unequal_parts(model):
        raise ModelError(
            f"nodes of the exported graph join or split unequal parts, which ONNX Runtime before 1.30 may replay "
            f"wrongly in a CUDA graph: {', '.join(uneven)}; choose by column instead, as DetectionHead does"
        )


def unequal_parts(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that concatenate or split tensors in parts of different sizes."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int | str]] = {weight.name: list(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]

    def is_uneven(node: onnx.NodeProto) -> bool:
        parts = node.input if node.op_type == "Concat" else node.output
        return len({tuple(shapes.get(part, ())) for part in parts}) > 1

    return [node.name for node in graph.node if node.op_type in ("Concat", "Split") and is_uneven(node)]
