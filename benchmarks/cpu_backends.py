"""What other ways of running the shipped model on a CPU would give: int8 in ONNX Runtime, OpenVINO in fp32 and bf16.

    python -m pip install openvino      into the environment of the project, which needs its extra dev
    python benchmarks/cpu_backends.py

Milliseconds per tile of 1, 4 and 8 at once, all ways in turns, each with one tile at a time on every core; and the
share of picks that are the same as those of ONNX Runtime with fp32, which ships, on simulated micrographs of held-out
structures (one-to-one, centres within one working pixel, at the default threshold). A way is worth having when 99.5 %
of the picks are the same and it is at least 1.3 times as fast. int8 is calibrated on micrographs of structures that
are not held out.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_simulated import EXTENT, SIDE, STANDARD
from common import circumstances, save
from onnxruntime import quantization

from gtpick_model.simulator.field import simulate
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.structures import held_out
from gtpick_model.simulator.views import build_library
from gtpick_rt import Micrograph, Picker, Picks
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.evaluate import match
from gtpick_rt.model_files import resolve_model
from gtpick_rt.parity import MIN_AGREEMENT, PICK_RADIUS_PX
from gtpick_rt.spec import ModelSpec
from gtpick_rt.tile import cut, tile_grid
from gtpick_rt.types import FloatArray

BATCHES = (1, 4, 8)
ROUNDS = 20
STRUCTURES = {"calibration": 20, "comparison": 60}
PROCEDURAL = range(2000, 2600)
"""Beyond those that training makes and those of which other figures are."""
MIN_SPEED_UP = 1.3
REFERENCE = "ONNX Runtime fp32"
Infer = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


def micrographs(count: int, unseen: bool) -> Iterator[Micrograph]:
    """One simulated micrograph each of so many procedural structures that are held out, or that are not."""
    structures = (procedural(index, 48) for index in PROCEDURAL)
    chosen = islice((structure for structure in structures if held_out(structure.name) == unseen), count)
    library = build_library(list(chosen), views=24, seed=2)
    for index, name in enumerate(library.names):
        fields = simulate(library.only(index), 1, (SIDE, SIDE), STANDARD, (9, index))
        yield Micrograph(fields.images[0].numpy(), float(fields.pixel_A[0]), Path(f"{name}.mrc"))


def tiles_of(some: list[Micrograph], picker: Picker) -> FloatArray:
    """All tiles of micrographs `(n, 1, t, t)`."""
    images = [_picker(picker.backend.infer, picker.spec, one).prepare(one).data for one in some]
    return cut([(image, tile) for image in images for tile in tile_grid(image.shape, picker.spec)], picker.spec)


def _picker(infer: Infer, spec: ModelSpec, micrograph: Micrograph) -> Picker:
    """A picker with the diameter of that micrograph's particles."""
    return Picker(ScriptedBackend(spec, infer), spec, EXTENT * micrograph.pixel_size_A)


class Tiles(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Tiles one by one, as ONNX Runtime's quantization asks for them."""

    def __init__(self, name: str, tiles: FloatArray) -> None:
        self._inputs = iter([{name: tile[None]} for tile in tiles])

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next tile, None at the end."""
        return next(self._inputs, None)


def quantized(model: Path, spec: ModelSpec, tiles: FloatArray, folder: Path, operations: list[str]) -> Path:
    """Write the model with these operations in int8, between QDQ nodes, calibrated on the tiles."""
    prepared, out = folder / "prepared.onnx", folder / f"int8_{'_'.join(operations)}.onnx"
    quantization.shape_inference.quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        out,
        Tiles(spec.input_name, tiles),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=operations,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    return out


def onnx_runtime(model: Path) -> Infer:
    """As the runtime loads models."""
    backend = OnnxRuntimeCpu()
    backend.open(model)
    return backend.infer


def open_vino(model: Path, spec: ModelSpec, precision: str) -> Infer:
    """OpenVINO on the CPU, one tile at a time on each core."""
    try:
        import openvino  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        sys.exit(f"{error}: python -m pip install openvino")
    cores, core = len(os.sched_getaffinity(0)), openvino.Core()
    network = core.read_model(model)
    network.reshape({spec.input_name: [1, 1, spec.tile_px, spec.tile_px]})
    options = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": precision}
    jobs = openvino.AsyncInferQueue(core.compile_model(network, "CPU", options), cores)

    def infer(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores = np.empty((len(tiles), spec.queries), np.float32)
        boxes = np.empty((len(tiles), spec.queries, 3), np.float32)

        def keep(request: Any, place: int) -> None:
            scores[place] = request.get_tensor(spec.score_name).data
            boxes[place] = request.get_tensor(spec.box_name).data

        jobs.set_callback(keep)
        for place, tile in enumerate(tiles):
            jobs.start_async({spec.input_name: tile[None]}, place)
        jobs.wait_all()
        return scores, boxes

    return infer


def times(ways: dict[str, Infer], tiles: FloatArray) -> dict[str, dict[int, dict[str, float]]]:
    """Milliseconds per tile by way and batch, in turns: median and range."""
    result: dict[str, dict[int, dict[str, float]]] = {name: {} for name in ways}
    for batch in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 + ROUNDS):
            for name, infer in ways.items():
                began = time.perf_counter()
                infer(tiles[:batch])
                seconds[name].append(time.perf_counter() - began)
        for name, taken in seconds.items():
            each = [1e3 * value / batch for value in taken[1:]]
            result[name][batch] = {"median": statistics.median(each), "least": min(each), "most": max(each)}
    return result


def picks_of(infer: Infer, spec: ModelSpec, some: list[Micrograph]) -> list[Picks]:
    """Picks at the default threshold."""
    found = [_picker(infer, spec, one).pick(one) for one in some]
    return [picks[picks.score >= spec.threshold] for picks in found]


def agreement(reference: list[Picks], others: list[Picks], radius_px: float) -> float:
    """Share of picks that are the same, of the larger number of picks."""
    pairs = zip(reference, others, strict=True)
    same = sum(len(match(other.xy_px, wanted.xy_px, radius_px)) for wanted, other in pairs)
    most = max(sum(map(len, reference)), sum(map(len, others)))
    return same / most if most else 1.0


def judge(measured: dict[str, dict[int, dict[str, float]]], same: dict[str, float]) -> list[dict[str, Any]]:
    """Every way's figures; how many times as fast it is counts at the largest batch."""
    usual = measured[REFERENCE][max(BATCHES)]["median"]
    rows = []
    for name, by_batch in measured.items():
        faster = usual / by_batch[max(BATCHES)]["median"]
        worth = same[name] >= MIN_AGREEMENT and faster >= MIN_SPEED_UP
        figures = {"same_picks": same[name], "times_as_fast": faster, "worth_having": worth}
        rows.append({"way": name, "ms_per_tile": by_batch, **figures})
        each = "  ".join(f"{by_batch[batch]['median']:6.2f}" for batch in BATCHES)
        print(f"{name:45} {each} ms per tile  {same[name]:8.2%} of picks the same  {faster:.2f} times as fast")
    return rows


def conclusion(rows: list[dict[str, Any]]) -> str:
    """What the figures say, in a sentence."""
    right = [row for row in rows if row["way"] != REFERENCE and row["same_picks"] >= MIN_AGREEMENT]
    if not right:
        return f"No other way gives {MIN_AGREEMENT:.1%} of the picks."
    best = max(right, key=lambda row: float(row["times_as_fast"]))
    verdict = "worth having" if best["worth_having"] else f"not worth having below {MIN_SPEED_UP:g}"
    return (
        f"Of those that give {MIN_AGREEMENT:.1%} of the picks or more, {best['way']} is the fastest, "
        f"{best['times_as_fast']:.2f} times as fast as {REFERENCE}: {verdict}."
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, picker = resolve_model(arguments.model), Picker.open(100.0, model=arguments.model)
    spec = picker.spec
    seen = list(micrographs(STRUCTURES["calibration"], unseen=False))
    unseen = list(micrographs(STRUCTURES["comparison"], unseen=True))
    with tempfile.TemporaryDirectory() as folder:
        calibration = tiles_of(seen, picker)
        int8 = [quantized(model, spec, calibration, Path(folder), kinds) for kinds in (["Conv"], ["Conv", "MatMul"])]
        ways = {
            REFERENCE: onnx_runtime(model),
            "ONNX Runtime int8 convolutions": onnx_runtime(int8[0]),
            "ONNX Runtime int8 convolutions and products": onnx_runtime(int8[1]),
            "OpenVINO fp32": open_vino(model, spec, "f32"),
            "OpenVINO bf16": open_vino(model, spec, "bf16"),
        }
        measured = times(ways, tiles_of(unseen, picker))
        picks = {name: picks_of(infer, spec, unseen) for name, infer in ways.items()}
    radius_px = PICK_RADIUS_PX * EXTENT / spec.diameter_px
    rows = judge(measured, {name: agreement(picks[REFERENCE], found, radius_px) for name, found in picks.items()})
    print(conclusion(rows))
    result = {
        "model": spec.name,
        "version": spec.version,
        "openvino": version("openvino"),
        "rule": f"same picks: one-to-one, centres within {PICK_RADIUS_PX:g} working px, at the default threshold",
        "picks": sum(map(len, picks[REFERENCE])),
        "conclusion": conclusion(rows),
        "ways": rows,
    }
    save("cpu_backends", circumstances(sys.argv) | result)


if __name__ == "__main__":
    main()
