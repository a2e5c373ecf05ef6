"""What nothing on this machine can beat: the operations of the network, the bytes that must be
moved and those that must be read, each at a rate that is measured here.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.backends import onnx_file
from gtpick_rt.bench.measuring import Speed, forget
from gtpick_rt.models.spec import ModelSpec

SIDE = 2048
"""Of the matrices whose product tells what the processor can do."""
COPIED_BYTES = 1 << 28
"""More than any cache holds."""
REPEATS = 5
"""Of the product and of the copy; the fastest counts."""


@dataclass(frozen=True)
class Floor:
    """The least time for a micrograph, as one resource allows."""

    amount: float
    """Of floating-point operations, or bytes."""
    per_s: float
    """What the machine was measured to do."""
    share: float
    """Of the time that the pipeline takes for a micrograph."""

    @property
    def seconds(self) -> float:
        """Time for a micrograph, were nothing else to be done."""
        return self.amount / self.per_s

    def report(self) -> dict[str, float]:
        """All figures, for a file."""
        return {"amount": self.amount, "per_s": self.per_s, "seconds": self.seconds, "share": self.share}


def measure_floors(speed: Speed, model: Path, spec: ModelSpec, jobs: Sequence[Job], on_cpu: bool) -> dict[str, Floor]:
    """The floors under what was measured on the micrographs, by name.

    `flop` are those of the products and convolutions in `model`, at the rate of NumPy's product of
    large matrices in single precision. `bytes` are the micrograph's pixels, its tiles, the weights
    and the answers, each once, at the rate of a large copy, which reads and writes. Both are of the
    processor, and left out where the network runs elsewhere. `storage` are the micrograph's file,
    at the rate at which the files are read when they are not in the page cache.
    """
    size, read_s = _read_cold(jobs)
    floors = {}
    if on_cpu:
        moved = speed.tiles * 4 * (spec.tile_px**2 + 4 * spec.queries) + size + model.stat().st_size
        if flop := speed.tiles * flop_per_tile(model, spec):
            floors["flop"] = _floor(flop, product_rate(), speed.pipeline_s)
        floors["bytes"] = _floor(moved, copy_rate(), speed.pipeline_s)
    return floors | {"storage": _floor(size, size / read_s, speed.pipeline_cold_s)}


def _floor(amount: float, per_s: float, pipeline_s: float) -> Floor:
    return Floor(amount, per_s, amount / per_s / pipeline_s)


def flop_per_tile(model: Path, spec: ModelSpec) -> int:
    """Floating-point operations of the products and convolutions in a model, two for each
    multiplication: by the shapes that ONNX Runtime's profiler sees.

    Raises ModelError.
    """
    options = onnx_file.runtime("cpu").SessionOptions()
    options.graph_optimization_level = onnx_file.runtime("cpu").GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "tile")
        session = onnx_file.load(model, options, "CPUExecutionProvider")
        session.run(None, {spec.input_name: np.zeros((1, 1, spec.tile_px, spec.tile_px), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum(_flop(event["args"]) for event in events if "output_type_shape" in event.get("args", {}))


def _flop(node: dict[str, Any]) -> int:
    """Of one node."""
    inputs, outputs = (
        [shape for each in node[f"{which}_type_shape"] for shape in each.values()] for which in ("input", "output")
    )
    match node["op_name"]:
        case "MatMul":
            terms = inputs[0][-1]
        case "Gemm":
            terms = math.prod(inputs[0]) // outputs[0][0]
        case "Conv":
            terms = math.prod(inputs[1][1:])
        case _:
            return 0
    return 2 * int(terms) * math.prod(outputs[0])


def product_rate() -> float:
    """FLOP/s of NumPy's product of large matrices in single precision, on all cores."""
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    return 2 * SIDE**3 / _fastest(lambda: a @ b)


def copy_rate() -> float:
    """Bytes/s that one thread reads and writes when it copies."""
    source, target = np.ones((2, COPIED_BYTES), np.uint8)
    return 2 * COPIED_BYTES / _fastest(lambda: np.copyto(target, source))


def _fastest(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _read_cold(jobs: Sequence[Job]) -> tuple[float, float]:
    """Median size of a file, and seconds to read one that is not in the page cache."""
    forget(jobs)
    sizes, seconds = [], []
    for job in jobs:
        began = time.perf_counter()
        sizes.append(len(job.path.read_bytes()))
        seconds.append(time.perf_counter() - began)
    return median(sizes), median(seconds)
