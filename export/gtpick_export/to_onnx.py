"""From a trained network to one ONNX file that says itself how it is to be run."""

from pathlib import Path

import onnx
import torch
from scipy.special import expit, logit

from gtpick_model.metrics import DUPLICATE
from gtpick_model.network import GTPick, Inference
from gtpick_model.simulator.field import Conditions
from gtpick_rt.commit import write_atomic
from gtpick_rt.errors import ModelError
from gtpick_rt.spec import METADATA_KEY, ModelSpec

OPSET = 18
"""Newer opsets rename GridSample modes and fuse attention into nodes that TensorRT's parsers refuse or misread."""
MARGIN_PX = 32
"""Rim of a tile left to its neighbours: more than one nominal diameter."""
FLOOR = 0.05


def make_spec(network: GTPick, name: str, version: str, provenance: dict[str, str]) -> ModelSpec:
    """The spec of a trained network; threshold and calibration come from simulated tiles of held-out structures."""
    config = network.config
    a, b = float(provenance["calibration_slope"]), float(provenance["calibration_offset"])
    threshold = float(expit(a * logit(float(provenance["threshold"])) + b))
    return ModelSpec(
        name=name,
        version=version,
        tile_px=config.tile_px,
        margin_px=MARGIN_PX,
        queries=config.queries_for(config.tile_px),
        diameter_px=config.nominal_diameter_px,
        diameter_range_px=Conditions().extent_px,
        highpass_px=config.highpass_px,
        clip=config.clip,
        merge_distance=DUPLICATE,
        calibration=(a, b),
        threshold=threshold,
        floor=min(FLOOR, threshold),
        provenance=provenance,
    )


def export_onnx(network: GTPick, spec: ModelSpec, path: Path) -> None:
    """Write the network as one ONNX file with a dynamic batch and the spec in its metadata.

    Raises:
        ModelError: the graph needs operators outside the standard ONNX domain or another opset.
    """
    tiles = torch.zeros(2, 1, spec.tile_px, spec.tile_px)
    program = torch.onnx.export(
        Inference(network.float().cpu()).eval(),
        (tiles,),
        input_names=[spec.input_name],
        output_names=[spec.score_name, spec.box_name],
        dynamic_shapes={"tiles": {0: torch.export.Dim("batch", min=1, max=1024)}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _check(model)
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    write_atomic(path, model.SerializeToString())


def _check(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    opsets = {entry.domain: entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if used or set(opsets.values()) != {OPSET}:
        raise ModelError(f"the exported graph must use opset {OPSET} alone, found opsets {opsets} and domains {used}")
