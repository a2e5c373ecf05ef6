"""What is a threshold worth that is found from scores alone, beside the model's own?

    python benchmarks/accuracy/found_threshold.py --structures STRUCTURES

Simulated data sets of held-out structures, each of one specimen and one signal-to-noise ratio. For
each: the F1 that its scores promise at the threshold that they suggest and at the model's own, and
the F1 that both have. `gained` sums up the sets that promise a credible F1 from enough particles,
by what they promise to gain.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.common import circumstances, save
from gtpick_export.finetuning import shipped_weights
from gtpick_export.to_onnx import make_spec
from gtpick_model.calibration import f1_at
from gtpick_model.projections import kept_libraries
from gtpick_model.real.teacher import RADIUS, detect_whole
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import make_tiles
from gtpick_model.weights import load_weights
from gtpick_rt.detection.threshold import CREDIBLE, ENOUGH, expect
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.types import Picks

TILES, TILE_PX = 8, 256
EXTENT_PX = (16.0, 30.0)
COVERAGES = (0.05, 0.15, 0.35, 0.5)
SNR = (0.003, 0.1)
PROCEDURALS = 240
STEPS = (0.0, 0.001, 0.005, 0.02, 1.0)
"""Between the gains that are summed up."""


def data_sets(weights: Path, structures: Path, count: int, seed: int) -> Iterator[dict[str, float]]:
    """Figures of one simulated data set after another."""
    network, provenance = load_weights(weights)
    spec = make_spec(network, weights.stem, "1", provenance)
    _, library = kept_libraries(structures, PROCEDURALS, print)
    rng = np.random.default_rng(seed)
    for number in range(count):
        snr, extent_px = float(np.exp(rng.uniform(*np.log(SNR)))), float(rng.uniform(*EXTENT_PX))
        coverage = float(rng.choice(COVERAGES))
        conditions = Conditions(
            snr=(snr, snr), extent_px=(extent_px, extent_px), coverage=(coverage, coverage), empty=0.0
        )
        tiles = make_tiles(library, TILES, TILE_PX, network.config, conditions, (seed, number))
        found = [detect_whole(network, image[0].numpy(), spec.calibration) for image in tiles.images]
        boxes = [each.numpy() for each in tiles.boxes]
        labels = [Picks(each[:, :2], each[:, 2], np.ones(len(each), np.float32)) for each in boxes]
        drawn = curve(list(zip(found, labels, strict=True)), RADIUS * extent_px)
        expected = expect(drawn.score, spec.threshold)
        best_f1, best_threshold = drawn.best()
        yield {
            "snr": snr,
            "extent_px": extent_px,
            "coverage": coverage,
            "particles": drawn.labels,
            "particles_expected": expected.particles,
            "threshold": expected.threshold,
            "promised_f1": expected.f1,
            "promised_f1_at_own": expected.own_f1,
            "f1": f1_at(drawn, expected.threshold),
            "f1_at_own": f1_at(drawn, spec.threshold),
            "best_f1": best_f1,
            "best_threshold": best_threshold,
        }


def gained(rows: list[dict[str, float]]) -> list[dict[str, Any]]:
    """What was gained by the found threshold, by what was promised; and what the own one loses of
    the best.
    """
    credible = [row for row in rows if row["promised_f1"] >= CREDIBLE and row["particles_expected"] >= ENOUGH]
    result = []
    for low, high in itertools.pairwise(STEPS):
        some = [row for row in credible if low <= row["promised_f1"] - row["promised_f1_at_own"] < high]
        if some:
            gains = [row["f1"] - row["f1_at_own"] for row in some]
            lost = [row["best_f1"] - row["f1_at_own"] for row in some]
            figures = {"mean": np.mean(gains), "least": min(gains), "most": max(gains), "own_loses": np.mean(lost)}
            shown = {name: round(float(value), 4) for name, value in figures.items()}
            result.append({"promised_from": low, "promised_below": high, "sets": len(some)} | shown)
    return result


def main() -> None:
    """Simulate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True, help="as `gtpick-rt train --structures`")
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rows = []
    for row in data_sets(arguments.weights, arguments.structures, arguments.sets, arguments.seed):
        rows.append({name: round(value, 4) for name, value in row.items()})
        print(" ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    summed = gained(rows)
    print(*summed, sep="\n")
    shipped = arguments.weights == shipped_weights()
    suffix = ".json" if shipped else f"_{arguments.weights.stem}.json"
    save(
        __file__,
        circumstances(["python", *sys.argv]) | {"weights": arguments.weights.stem, "gained": summed, "data_sets": rows},
        suffix,
    )


if __name__ == "__main__":
    main()
