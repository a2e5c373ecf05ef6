"""The network with convolutions in 8-bit floating point (E4M3), to try out: as `int8`, with other
numbers in the same places.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gtpick_export.int8 import calibration_tiles, quantise
from gtpick_export.to_onnx import to_graph, write_model
from gtpick_model.network import GTPick
from gtpick_rt.models.spec import ModelSpec

OPSET = 19
"""The first whose QuantizeLinear knows these numbers; all else here is as in 18."""
LARGEST, LARGEST_INT8 = 448, 127


def export_fp8(network: GTPick, spec: ModelSpec, path: Path) -> None:
    """Write the network with such convolutions as one ONNX file, calibrated on simulated tiles."""
    model = quantise(to_graph(network, spec, OPSET), spec, calibration_tiles(network, spec))
    write_model(to_fp8(model), spec, path, OPSET)


def to_fp8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let a graph that is quantised to int8, symmetrically, be quantised to E4M3 in the same
    ranges.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    nodes, constants = graph.graph.node, {each.name: each for each in graph.graph.initializer}
    quantised = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in quantised}:
        scale = numpy_helper.to_array(constants[name]) * np.float32(LARGEST_INT8 / LARGEST)
        constants[name].CopyFrom(numpy_helper.from_array(scale, name))
    for name in {node.input[2] for node in quantised}:
        dims = list(constants[name].dims)
        zeros = bytes(int(np.prod(dims)))
        constants[name].CopyFrom(helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, dims, zeros, raw=True))
    # ONNX Runtime 1.32 leaves out a Relu before a QuantizeLinear, as if that cut off at nought.
    nought = numpy_helper.from_array(np.float32(0), "nought")
    graph.graph.initializer.append(nought)
    for node in nodes:
        if node.op_type == "Relu":
            node.op_type = "Max"
            node.input.append(nought.name)
    for value in graph.graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.INT8:
            value.type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    return graph
