"""Preprocessing as an ONNX graph, for devices that multiply matrices faster than a processor does.

All that is linear in `gtpick_rt.detection.preprocess` (resampling, background, coarse image) is a
product with matrices that are inputs, so that one graph serves all sizes of micrographs, particles
and pixels. Medians are found by halving the range between the extremes. Areas that are no ice are
left to the processor: the graph tells where there may be some.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import uniform_filter1d

from gtpick_export.to_onnx import OPSET, write_model
from gtpick_rt.detection.outlying import FAR, STEP
from gtpick_rt.detection.preprocess import MAD_TO_SIGMA, ROUNDING, cell_px, working_shape
from gtpick_rt.detection.resample import resampling_matrix
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

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
    "sign": (1,),
}
"""Shapes of what goes in: the micrograph, the matrices that `feeds` gives, and -1 where particles
are bright."""
OUTPUTS = {"data": ("h", "w"), "coarse": ("cells_h", "cells_w"), "sigma": (), "plain": ()}
"""Shapes of what comes out: those of `WorkingImage`, the deviation that was divided by, 0 for a
blank image, and 1 where no pixel lies so far out that it may belong to an area that is no ice."""


def export_preprocessing(spec: ModelSpec, pixels: Literal["float16", "float32"], path: Path) -> None:
    """Write the graph for micrographs of such pixels as one ONNX file, with the spec in it.

    Raises ModelError.
    """
    write_model(preprocessing(spec, pixels), spec, path)


def feeds(micrograph: Micrograph, diameter_A: float, spec: ModelSpec, contrast: str = "dark") -> dict[str, Any]:
    """What goes into the graph for a micrograph, by the names of `INPUTS`. Raises PixelError."""
    (height, width), (h, w) = micrograph.data.shape, working_shape(micrograph, diameter_A, spec)
    return {
        "image": micrograph.data,
        "down": resampling_matrix(height, h),
        "across": resampling_matrix(width, w).T.copy(),
        "smooth_down": _smoothing(h, spec.highpass_px),
        "smooth_across": _smoothing(w, spec.highpass_px).T.copy(),
        "cells_down": _cells(h, cell_px(spec)),
        "cells_across": _cells(w, cell_px(spec)).T.copy(),
        "sign": np.array([-1 if contrast == "bright" else 1], np.float32),
    }


@lru_cache(maxsize=4)
def _smoothing(n: int, width: int) -> FloatArray:
    """`(n, n)`: a box filter applied twice along a line that goes on as in a mirror."""
    once = uniform_filter1d(np.eye(n), width, axis=0, mode="reflect")
    return np.asarray(uniform_filter1d(once, width, axis=0, mode="reflect"), np.float32)


@lru_cache(maxsize=4)
def _cells(n: int, size: int) -> FloatArray:
    """`(cells, n)`: means of so many pixels of a line, the last cell cut short."""
    cell = np.arange(n) // size
    belongs = cell == np.arange(cell[-1] + 1)[:, None]
    return np.asarray(belongs / belongs.sum(axis=1, keepdims=True), np.float32)


class _Graph:
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


def preprocessing(spec: ModelSpec, pixels: Literal["float16", "float32"]) -> onnx.ModelProto:
    """The graph, which takes `INPUTS` and gives `OUTPUTS`."""
    add = _Graph()
    pixel = add("Cast", "image", to=TensorProto.FLOAT)
    centre = add("ReduceMean", pixel, keepdims=0)  # without which products lose fewer digits
    image = add("MatMul", add("MatMul", "down", add("Sub", pixel, centre)), "across")
    _tell_whether_plain(add, image)
    coarse = add("MatMul", add("MatMul", "cells_down", image), "cells_across")
    add("Mul", add("Add", coarse, centre), "sign", out="coarse")
    background = add("MatMul", add("MatMul", "smooth_down", image), "smooth_across")
    level = add("Abs", add("Add", add("ReduceMean", background, keepdims=0), centre))
    flat = add("Sub", image, background)
    flat = add("Sub", flat, _median(add, flat))
    deviation = add("Mul", _median(add, add("Abs", flat)), MAD_TO_SIGMA)
    blank = add("LessOrEqual", deviation, add("Mul", level, float(ROUNDING)))
    add("Where", blank, 0.0, deviation, out="sigma")
    scaled = add("Clip", add("Div", flat, add("Where", blank, 1.0, deviation)), -spec.clip, spec.clip)
    add("Mul", add("Where", blank, 0.0, scaled), "sign", out="data")
    kinds = dict.fromkeys(INPUTS, TensorProto.FLOAT) | {"image": PIXELS[pixels]}
    graph = helper.make_graph(
        add.nodes,
        "preprocessing",
        [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in INPUTS.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in OUTPUTS.items()],
        list(add.constants.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def _tell_whether_plain(add: _Graph, image: str) -> None:
    """Look whether extremes are near to what is usual, as `outlying_areas` does."""
    axes = np.array([0, 1], np.int64)
    some = add("Slice", image, 0 * axes, 0 * axes + np.iinfo(np.int32).max, axes, 0 * axes + STEP)
    level = _median(add, some)
    spread = add("Mul", _median(add, add("Abs", add("Sub", some, level))), MAD_TO_SIGMA)
    limit = add("Mul", spread, FAR)
    low, high = (add(f"Reduce{which}", image, keepdims=0) for which in ("Min", "Max"))
    near = add("LessOrEqual", add("Max", add("Sub", high, level), add("Sub", level, low)), limit)
    sound = add("And", add("Greater", spread, 0.0), add("Less", limit, _HUGE))
    add("Cast", add("And", near, sound), to=TensorProto.FLOAT, out="plain")


def _median(add: _Graph, values: str) -> str:
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
