"""The graph after the network: its answers for the tiles of a micrograph go in, picks come out, as
`gtpick_rt.detection` makes them.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from gtpick_export.prepare_step import PLACES
from gtpick_export.preprocessing import Graph, Tensors
from gtpick_rt.models.spec import ModelSpec

FLOAT, BOOL = TensorProto.FLOAT, TensorProto.BOOL
OUTPUTS: Tensors = {"picks": (FLOAT, ("picks", 4))}
"""x, y and diameter in pixels of the micrograph, and the calibrated score, from the model's floor
on; the best first."""
_HUGE = float(np.finfo(np.float32).max)
_LAST = np.array([-1])


def inputs(spec: ModelSpec) -> Tensors:
    """What the network answers, and where the tiles are."""
    scores, boxes = (FLOAT, ("tiles", spec.queries)), (FLOAT, ("tiles", spec.queries, 3))
    return {spec.score_name: scores, spec.box_name: boxes, **PLACES}


def joining(spec: ModelSpec) -> onnx.ModelProto:
    """The graph, which takes `inputs` and gives `OUTPUTS`."""
    add = Graph()
    x0, y0, left, right, top, bottom = (add("Gather", "places", np.array([n]), axis=1) for n in range(6))
    x, y, size = (add("Gather", spec.box_name, np.array(n), axis=2) for n in range(3))
    x, y, score = add("Add", x, x0), add("Add", y, y0), _calibrated(add, spec)
    slack = add("Mul", size, spec.merge_distance / 2)
    good = add("GreaterOrEqual", score, spec.floor)
    for each in (add("Greater", size, 0.0), add("Less", size, _HUGE)):
        good = add("And", good, each)
    for value, begin, end in ((x, left, right), (y, top, bottom)):
        good = add("And", good, add("GreaterOrEqual", value, add("Sub", begin, slack)))
        good = add("And", good, add("Less", value, add("Add", end, slack)))
    every = add("Concat", *(add("Unsqueeze", each, _LAST) for each in (x, y, size, score)), axis=2)
    own = add("Compress", add("Reshape", every, np.array([-1, 4])), add("Reshape", good, _LAST), axis=0)
    best = _single(add, _ranked(add, own), spec.merge_distance)
    _back(add, _whole(add, best, spec.diameter_px))
    return add.model("join", inputs(spec), OUTPUTS)


def _column(add: Graph, rows: str, number: int) -> str:
    return add("Gather", rows, np.array(number), axis=1)


def _calibrated(add: Graph, spec: ModelSpec) -> str:
    a, b = spec.calibration
    score = add("Max", add("Min", spec.score_name, 1.0), 0.0)
    logit = add("Log", add("Div", score, add("Sub", 1.0, score)))
    return add("Sigmoid", add("Add", add("Mul", logit, a), b))


def _ranked(add: Graph, rows: str) -> str:
    """The best first."""
    count = add("Shape", rows, end=1)
    add.nodes.append(helper.make_node("TopK", [_column(add, rows, 3), count], ["ranked", "rank"], name="TopK"))
    return add("Gather", rows, "rank", axis=0)


def _single(add: Graph, rows: str, distance: float) -> str:
    """Those that are not near a better one that stays.

    Whether one stays hangs on better ones alone, so that going over all of them again and again
    ends, after as many turns as there are in the longest chain.
    """
    x, y, size = (_column(add, rows, n) for n in range(3))

    def with_each_other(operator: str, values: str) -> str:
        return add(operator, add("Unsqueeze", values, np.array([0])), add("Unsqueeze", values, np.array([1])))

    across, down = with_each_other("Sub", x), with_each_other("Sub", y)
    apart = add("Sqrt", add("Add", add("Mul", across, across), add("Mul", down, down)))
    near = add("Less", apart, add("Mul", with_each_other("Add", size), distance / 2))
    better = add("Trilu", add("Cast", near, to=FLOAT), np.array(-1), upper=0)  # (of each, its better ones)
    stays = add("Loop", "", "", add("Equal", size, size), body=_turn(better))
    return add("Compress", rows, stays, axis=0)


def _turn(better: str) -> onnx.GraphProto:
    """What stays when those that stayed so far do, and whether that is another."""
    add = Graph()
    taken = add("MatMul", better, add("Cast", "stayed", to=FLOAT))
    add("LessOrEqual", taken, 0.0, out="stay")
    changed = add("Cast", add("Xor", "stayed", "stay"), to=FLOAT)
    add("Greater", add("ReduceSum", changed, keepdims=0), 0.0, out="again")
    whether: Tensors = {"again_in": (BOOL, ())}
    given: Tensors = {"turn": (TensorProto.INT64, ()), **whether, "stayed": (BOOL, ("merged",))}
    return add.model("turn", given, {"again": (BOOL, ()), "stay": (BOOL, ("merged",))}).graph


def _whole(add: Graph, rows: str, diameter_px: float) -> str:
    """Those whose circle of the nominal diameter lies on the image."""
    r = diameter_px / 2
    good = []
    for number, axis in ((0, 3), (1, 2)):
        value = add("Add", _column(add, rows, number), 0.5)  # from the corner of the first pixel
        most = add("Sub", add("Gather", "shapes", np.array(axis)), r)
        good += [add("GreaterOrEqual", value, r), add("LessOrEqual", value, most)]
    return add("Compress", rows, add("And", add("And", *good[:2]), add("And", *good[2:])), axis=0)


def _back(add: Graph, rows: str) -> None:
    """Add `picks`, which are in pixels of the micrograph."""
    down, across = (
        add("Div", *(add("Gather", "shapes", np.array([n])) for n in (before, before + 2))) for before in (0, 1)
    )
    x, y = (
        add("Sub", add("Mul", add("Add", _column(add, rows, n), 0.5), zoom), 0.5)
        for n, zoom in ((0, across), (1, down))
    )
    size = add("Mul", _column(add, rows, 2), add("Sqrt", add("Mul", down, across)))
    columns = (x, y, size, _column(add, rows, 3))
    add("Concat", *(add("Unsqueeze", each, _LAST) for each in columns), axis=1, out="picks")
