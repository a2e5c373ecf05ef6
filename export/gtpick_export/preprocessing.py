"""Preprocessing as an ONNX graph, for devices that multiply matrices faster than a processor does.

    python -m gtpick_export.preprocessing

writes the files that ship. All that is linear in `gtpick_rt.detection.preprocess` (resampling,
background, coarse image) is a product with matrices that are inputs, and so is what a model's spec
says: one graph serves all models, and all sizes of micrographs, particles and pixels. Medians are
found by halving the range between the extremes. Areas that are no ice are left to the processor:
the graph tells where there may be some.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gtpick_export.to_onnx import OPSET, write_graph
from gtpick_rt.detection.outlying import FAR, STEP, VERY_FAR
from gtpick_rt.detection.preprocess import MAD_TO_SIGMA, ROUNDING
from gtpick_rt.models.files import PREPROCESSING

PIXELS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}
"""In which a micrograph comes."""
HALVINGS = 30
"""Of the range in which a median is looked for."""
_HUGE = float(np.finfo(np.float32).max)
INPUTS = {
    "image": ("height", "width"),
    "down": ("h", "height"),
    "across": ("width", "w"),
    "smooth_down": ("h", "h"),
    "smooth_across": ("w", "w"),
    "cells_down": ("cells_h", "h"),
    "cells_across": ("w", "cells_w"),
    "clip": (),
    "least_area": (),
}
"""Shapes of what goes in: the micrograph, and what `gtpick_rt.detection.graph.constants` gives."""
OUTPUTS = {"data": ("h", "w"), "coarse": ("cells_h", "cells_w"), "sigma": (), "plain": ()}
"""Shapes of what comes out: those of `WorkingImage`, the deviation that was divided by, 0 for a
blank image, and 1 where too few pixels lie far out to be an area that is no ice."""

Tensors = Mapping[str, tuple[int, tuple[int | str, ...]]]
"""Name, type and shape of what goes into a graph or comes out; a name for a size that is open."""


def export_preprocessing(pixels: str, path: Path) -> None:
    """Write the graph for micrographs of such pixels, of `PIXELS`, as one ONNX file.

    Raises ModelError.
    """
    write_graph(preprocessing(pixels), {}, path)


class Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def __call__(self, operator: str, *inputs: Any, out: str = "", **attributes: Any) -> str:
        """Add a node; numbers among its inputs become constants. Returns the name of its output."""
        name = out or f"{operator}_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], name=name, **attributes))
        return name

    def constant(self, value: float | NDArray[Any]) -> str:
        """Add a constant, once."""
        array = value if isinstance(value, np.ndarray) else np.array(value, np.float32)
        name = f"constant_{array.tolist()}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def model(self, name: str, inputs: Tensors, outputs: Tensors) -> onnx.ModelProto:
        """The graph of all that was added."""
        given, found = (
            [helper.make_tensor_value_info(each, *described) for each, described in tensors.items()]
            for tensors in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, given, found, list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def preprocessing(pixels: str) -> onnx.ModelProto:
    """The graph, which takes `INPUTS` and gives `OUTPUTS`."""
    add = Graph()
    add_preprocessing(add)
    kinds = dict.fromkeys(INPUTS, TensorProto.FLOAT) | {"image": PIXELS[pixels]}
    given = {name: (kinds[name], shape) for name, shape in INPUTS.items()}
    return add.model("preprocessing", given, {name: (TensorProto.FLOAT, shape) for name, shape in OUTPUTS.items()})


def add_preprocessing(add: Graph, *, coarse: bool = True, plain: str = "plain") -> None:
    """Add what makes `OUTPUTS` of `INPUTS`, with or without the coarse image, and `plain` by this
    name.
    """
    pixel = add("Cast", "image", to=TensorProto.FLOAT)
    centre = add("ReduceMean", pixel, keepdims=0)  # without which products lose fewer digits
    image = add("MatMul", add("MatMul", "down", add("Sub", pixel, centre)), "across")
    _tell_whether_plain(add, image, plain)
    if coarse:
        cells = add("MatMul", add("MatMul", "cells_down", image), "cells_across")
        add("Add", cells, centre, out="coarse")
    background = add("MatMul", add("MatMul", "smooth_down", image), "smooth_across")
    level = add("Abs", add("Add", add("ReduceMean", background, keepdims=0), centre))
    flat = add("Sub", image, background)
    flat = add("Sub", flat, _median(add, flat))
    deviation = add("Mul", _median(add, add("Abs", flat)), MAD_TO_SIGMA)
    blank = add("LessOrEqual", deviation, add("Mul", level, float(ROUNDING)))
    add("Where", blank, 0.0, deviation, out="sigma")
    scaled = add("Div", flat, add("Where", blank, 1.0, deviation))
    clipped = add("Max", add("Min", scaled, "clip"), add("Neg", "clip"))
    add("Where", blank, 0.0, clipped, out="data")


def _tell_whether_plain(add: Graph, image: str, out: str) -> None:
    """Look how many pixels are far from what is usual, and how far, as `outlying_areas` does."""
    axes = np.array([0, 1], np.int64)
    some = add("Slice", image, 0 * axes, 0 * axes + np.iinfo(np.int32).max, axes, 0 * axes + STEP)
    level = _median(add, some)
    spread = add("Mul", _median(add, add("Abs", add("Sub", some, level))), MAD_TO_SIGMA)
    distance = add("Abs", add("Sub", image, level))
    far = add("Cast", add("Greater", distance, add("Mul", spread, FAR)), to=TensorProto.FLOAT)
    few = add("Less", add("ReduceSum", far, keepdims=0), "least_area")
    limit = add("Mul", spread, VERY_FAR)
    near = add("LessOrEqual", add("ReduceMax", distance, keepdims=0), limit)
    sound = add("And", add("Greater", spread, 0.0), add("Less", limit, _HUGE))
    add("Cast", add("And", add("And", few, near), sound), to=TensorProto.FLOAT, out=out)


def _median(add: Graph, values: str) -> str:
    """Halve the range that the middle value must lie in; then take the two in the middle, which are
    one of an odd number.
    """
    half = add("Mul", add("Cast", add("Size", values), to=TensorProto.FLOAT), 0.5)

    def count(limit: str) -> str:
        below = add("Cast", add("LessOrEqual", values, limit), to=TensorProto.FLOAT)
        return add("ReduceSum", below, keepdims=0)

    low, high = (add(f"Reduce{which}", values, keepdims=0) for which in ("Min", "Max"))
    for _ in range(HALVINGS):
        middle = add("Mul", add("Add", low, high), 0.5)
        enough = add("GreaterOrEqual", count(middle), half)
        low, high = add("Where", enough, low, middle), add("Where", enough, middle, high)
    first = add("ReduceMax", add("Where", add("LessOrEqual", values, high), values, -_HUGE), keepdims=0)
    above = add("ReduceMin", add("Where", add("LessOrEqual", values, first), _HUGE, values), keepdims=0)
    second = add("Where", add("Greater", count(first), half), first, above)
    return add("Mul", add("Add", first, second), 0.5)


if __name__ == "__main__":
    for each, file in PREPROCESSING.items():
        file.parent.mkdir(exist_ok=True)
        export_preprocessing(each, file)
