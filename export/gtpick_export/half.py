"""The network in half precision: float16 weights and activations, for hardware that computes in it.

Every tensor has the type that the file gives it; an inference engine has nothing to choose. In
float32 remain the positions with their sine codes, the choice of the proposals, and the detection
heads: near the far edge of a tile a step of float16 is an eighth of a pixel. LayerNorm computes its
statistics in float32, as ONNX defines it.
"""

import copy
from itertools import pairwise
from pathlib import Path

import onnx
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gtpick_export.to_onnx import to_graph, write_model
from gtpick_model.heads import DetectionHead
from gtpick_model.network import GTPick
from gtpick_rt.models.spec import ModelSpec


def export_half(network: GTPick, spec: ModelSpec, path: Path) -> None:
    """Write the network in half precision as one ONNX file; what goes in and comes out stays
    float32.
    """
    write_model(to_graph(to_half(network), spec), spec, path)


def to_half(network: GTPick) -> GTPick:
    """Copy a network into half precision, for inference alone: batch normalisation is folded away
    first.
    """
    half = copy.deepcopy(network).cpu().eval()
    for module in half.modules():
        if isinstance(module, nn.Sequential):
            _fold_batch_normalisation(module)
    heads = [module for module in half.modules() if isinstance(module, DetectionHead)]
    in_heads = {id(parameter) for head in heads for parameter in head.parameters()}
    for parameter in half.parameters():
        if id(parameter) not in in_heads:
            parameter.data = parameter.data.half()
    return half


def _fold_batch_normalisation(layers: nn.Sequential) -> None:
    """Fold each batch normalisation into the convolution before it; variances may not fit into
    float16.
    """
    for i, (layer, following) in enumerate(pairwise(list(layers))):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()


def half_share(model: onnx.ModelProto) -> float:
    """Share of a graph's floating-point tensors, weights and values, that are float16."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    kinds |= {weight.name: weight.data_type for weight in graph.initializer}
    half, single = (list(kinds.values()).count(kind) for kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT))
    return half / (half + single)
