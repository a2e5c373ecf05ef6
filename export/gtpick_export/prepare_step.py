"""The graph before the network: a micrograph and the diameter of its particles go in, tiles come
out.

It works out the matrices that `gtpick_export.preprocessing` multiplies with, as
`gtpick_rt.detection.graph` does, and cuts tiles as `gtpick_rt.detection.tile` does. What depends on
sizes alone is reckoned in whole numbers, which float32 has no room for.
"""

import numpy as np
import onnx
from onnx import TensorProto

from gtpick_export.preprocessing import Graph, Tensors, add_preprocessing
from gtpick_rt.detection.outlying import LARGE
from gtpick_rt.models.spec import ModelSpec

FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
INPUTS: Tensors = {"image": (FLOAT, ("height", "width")), "diameter_px": (DOUBLE, (1,))}
"""An image, and the particles' diameter in its pixels."""
PLACES: Tensors = {"places": (FLOAT, ("tiles", 6)), "shapes": (FLOAT, (4,))}
"""Of each tile the first column and row, and the left, right, top and bottom of its core, in
working pixels; height and width of the image, and at working scale."""
_LINE, _COLUMN = np.array([0]), np.array([1])
"""Axes on which a list of pixels becomes a row, and a column."""


def outputs(spec: ModelSpec) -> Tensors:
    """Tiles, where they are, and 1 where the micrograph has no area that is no ice, else 0."""
    tiles = (FLOAT, ("tiles", 1, spec.tile_px, spec.tile_px))
    return {spec.input_name: tiles, **PLACES, "plain": (FLOAT, (1,))}


def preparing(spec: ModelSpec) -> onnx.ModelProto:
    """The graph, which takes `INPUTS` and gives `outputs`."""
    add = Graph()
    shape = add("Shape", "image")
    height, width = (add("Slice", shape, np.array([n]), np.array([n + 1])) for n in (0, 1))
    scale = add("Div", add("Cast", spec.diameter_px, to=DOUBLE), "diameter_px")
    h, w = (_scaled(add, size, scale) for size in (height, width))
    add("Identity", _resampling(add, height, h), out="down")
    add("Transpose", _resampling(add, width, w), out="across")
    add("Identity", _smoothing(add, h, spec.highpass_px), out="smooth_down")
    add("Transpose", _smoothing(add, w, spec.highpass_px), out="smooth_across")
    add("Identity", spec.clip, out="clip")
    add("Identity", LARGE * spec.diameter_px**2, out="least_area")
    add_preprocessing(add, coarse=False, plain="is_plain")
    add("Reshape", "is_plain", _COLUMN, out="plain")
    add("Cast", add("Concat", height, width, h, w, axis=0), to=FLOAT, out="shapes")
    _cut(add, h, w, spec)
    return add.model("prepare", INPUTS, outputs(spec))


def _scaled(add: Graph, size: str, scale: str) -> str:
    working = add("Cast", add("Round", add("Mul", add("Cast", size, to=DOUBLE), scale)), to=INT)
    return add("Max", working, np.array([1]))


def _counted(add: Graph, count: str) -> str:
    """The numbers from 0 on, so many."""
    return add("Range", np.array(0), add("Squeeze", count), np.array(1))


def _resampling(add: Graph, before: str, after: str) -> str:
    """`(after, before)`: weights that resample a line of pixels, see `detection.resample`."""
    pixels, made = (
        add("Add", add("Mul", add("Unsqueeze", _counted(add, n), axis), np.array(2)), np.array(1))
        for n, axis in ((before, _LINE), (after, _COLUMN))
    )
    apart = add("Abs", add("Sub", add("Mul", pixels, after), add("Mul", made, before)))
    reach = add("Mul", add("Max", before, after), np.array(2))
    x = add("Div", add("Cast", apart, to=FLOAT), add("Cast", reach, to=FLOAT))
    near = _polynomial(add, x, (1.5, -2.5, 0.0, 1.0))
    far = _polynomial(add, x, (-0.5, 2.5, -4.0, 2.0))
    weights = add("Where", add("Less", x, 1.0), near, add("Where", add("Less", x, 2.0), far, 0.0))
    return add("Div", weights, add("ReduceSum", weights, np.array([1])))


def _polynomial(add: Graph, x: str, coefficients: tuple[float, ...]) -> str:
    first, *others = coefficients
    value = add("Mul", x, first)
    for number in others[:-1]:
        value = add("Mul", add("Add", value, number), x)
    return add("Add", value, others[-1])


def _smoothing(add: Graph, n: str, width: int) -> str:
    """`(n, n)`: a box filter applied twice along a line that goes on as in a mirror."""
    reach = np.array(width // 2)
    around = add("Sub", _counted(add, add("Add", n, np.array(width - 1))), reach)
    of = add("Unsqueeze", _mirrored(add, around, n), _COLUMN)
    belongs = add("Cast", add("Equal", of, add("Unsqueeze", _counted(add, n), _LINE)), to=FLOAT)
    centres = add("Unsqueeze", _counted(add, n), _COLUMN)
    apart = add("Abs", add("Sub", add("Unsqueeze", around, _LINE), centres))
    box = add("Div", add("Cast", add("LessOrEqual", apart, reach), to=FLOAT), float(width))
    once = add("MatMul", box, belongs)
    return add("MatMul", once, once)


def _mirrored(add: Graph, pixels: str, n: str) -> str:
    """Which of n pixels these are, folded back at both ends."""
    twice = add("Mul", n, np.array(2))
    around = add("Mod", pixels, twice)
    return add("Min", around, add("Sub", add("Sub", twice, np.array(1)), around))


def _cut(add: Graph, h: str, w: str, spec: ModelSpec) -> None:
    """Add `tiles` and their `places`, row by row."""
    rows, columns = (_Axis(add, n, spec) for n in (h, w))
    lines = add("Gather", "data", rows.pixels, axis=0)  # (rows, side, w)
    squares = add("Transpose", add("Gather", lines, columns.pixels, axis=2), perm=[0, 2, 1, 3])
    add("Reshape", squares, np.array([-1, 1, spec.tile_px, spec.tile_px]), out=spec.input_name)
    tile = _counted(add, add("Mul", rows.count, columns.count))
    row, column = add("Div", tile, columns.count), add("Mod", tile, columns.count)
    told = [(columns.first, column), (rows.first, row), (columns.begin, column), (columns.end, column)]
    told += [(rows.begin, row), (rows.end, row)]
    add("Concat", *(add("Unsqueeze", add("Gather", values, of), _COLUMN) for values, of in told), axis=1, out="places")


class _Axis:
    """Tiles along an axis of n pixels: see `detection.tile`."""

    def __init__(self, add: Graph, n: str, spec: ModelSpec) -> None:
        side, step = np.array([spec.tile_px]), np.array([spec.tile_px - 2 * spec.margin_px])
        last = add("Max", add("Sub", n, side), np.array([0]))
        gaps = add("Div", add("Add", last, step - 1), step)
        self.count = add("Add", gaps, np.array([1]))
        number = _counted(add, self.count)
        apart = add("Div", add("Cast", last, to=DOUBLE), add("Cast", add("Max", gaps, np.array([1])), to=DOUBLE))
        starts = add("Cast", add("Round", add("Mul", add("Cast", number, to=DOUBLE), apart)), to=INT)
        self.first = add("Cast", starts, to=FLOAT)
        pixels = add("Add", add("Unsqueeze", starts, _COLUMN), np.arange(spec.tile_px)[None])
        self.pixels = _mirrored(add, pixels, n)
        before = add("Gather", self.first, add("Max", add("Sub", number, np.array([1])), np.array([0])))
        after = add("Gather", self.first, add("Min", add("Add", number, np.array([1])), gaps))
        seams = (
            add("Mul", add("Add", add("Add", self.first, each), float(spec.tile_px - 1)), 0.5)
            for each in (before, after)
        )
        end = add("Sub", add("Cast", n, to=FLOAT), 0.5)
        left, right = seams
        self.begin = add("Where", add("Equal", number, np.array([0])), -0.5, left)
        self.end = add("Where", add("Equal", number, gaps), end, right)
