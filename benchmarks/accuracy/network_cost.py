"""What tile, depth and number of queries cost, and what they are worth.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/network_cost.py WORK/real --weights FILE ...

The same weights are exported with other tiles, with fewer queries, and with one decoder layer in
place of two, which its own head answers for. Each is given its best threshold on each set, since
Platt's map is of the whole network: so nothing but the ranking is compared. `seconds` are of the
network on all tiles of one working image of 910 x 910 px, a micrograph of 4096 x 4096 px of
EMPIAR-10017, the least of several rounds in which all take turns; `ratio` is to the first row.
Writes results/network_cost.json.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.prepare_real import SPECIMENS
from benchmarks.shared.common import circumstances, save
from gtpick_export.to_onnx import export_onnx, make_spec
from gtpick_model.metrics import RADIUS
from gtpick_model.network import GTPick
from gtpick_model.weights import load_weights
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.picker import Picker
from gtpick_rt.evaluate.curves import curve

ROUNDS = 5


class Way(NamedTuple):
    """One way of running the same weights."""

    tile_px: int = 256
    queries_per_256: int = 512
    decoder_layers: int | None = None
    """All of them with None."""


WAYS = (Way(), Way(192), Way(320), Way(384), Way(queries_per_256=384), Way(queries_per_256=256), Way(decoder_layers=1))


def opened(weights: Path, way: Way, folder: Path) -> Picker:
    """A picker that runs these weights in this way."""
    trained, provenance = load_weights(weights)
    queries = round(way.queries_per_256 * (way.tile_px / 256) ** 2)
    layers = way.decoder_layers or trained.config.decoder_layers
    network = GTPick(replace(trained.config, tile_px=way.tile_px, queries=queries, decoder_layers=layers)).eval()
    wanted = network.state_dict()
    network.load_state_dict({name: value for name, value in trained.state_dict().items() if name in wanted})
    path = folder / "model.onnx"
    export_onnx(network, make_spec(network, weights.stem, "0", provenance), path)
    backend = OnnxRuntimeCpu()
    return Picker(backend, backend.open(path), diameter_A=1.0)


def times(pickers: Sequence[Picker], judged: RealSet) -> list[float]:
    """Seconds of the network on the first micrograph, for each picker."""
    best = [float("inf")] * len(pickers)
    for _ in range(ROUNDS):
        for i, picker in enumerate(pickers):
            at_size = _for(picker, judged)
            image = at_size.prepare(judged.micrographs[0])
            started = time.perf_counter()
            at_size.infer(image)
            best[i] = min(best[i], time.perf_counter() - started)
    return best


def best_f1(picker: Picker, judged: RealSet) -> float:
    """Over all thresholds."""
    at_size = _for(picker, judged)
    found = [at_size.pick(micrograph) for micrograph in judged.micrographs]
    return curve(list(zip(found, judged.labels, strict=True)), RADIUS * judged.diameter_px).best()[0]


def _for(picker: Picker, judged: RealSet) -> Picker:
    return Picker(picker.backend, picker.spec, judged.specimen.diameter_A)


def main() -> None:
    """Measure all ways of all weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, metavar="WORK/real", help="folder that prepare_real.py wrote")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="the first in all ways, others as is")
    arguments = parser.parse_args()
    result = circumstances(["python", __file__])
    sets = [read_set(arguments.real / name) for name in SPECIMENS]
    tried = [(arguments.weights[0], way) for way in WAYS] + [(weights, Way()) for weights in arguments.weights[1:]]
    with tempfile.TemporaryDirectory() as folder:
        pickers = [opened(weights, way, Path(folder)) for weights, way in tried]
    seconds = times(pickers, sets[0])
    rows: list[dict[str, Any]] = []
    for (weights, way), picker, taken in zip(tried, pickers, seconds, strict=True):
        row = {"weights": weights.stem, **way._asdict(), "seconds": round(taken, 4), "ratio": taken / seconds[0]}
        rows.append(row | {f"best_f1_{each.name}": round(best_f1(picker, each), 4) for each in sets})
        print(rows[-1], flush=True)
    save(__file__, result | {"results": rows})


if __name__ == "__main__":
    main()
