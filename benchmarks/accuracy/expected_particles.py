"""Do the scores of a data set add up to the number of its particles?

    python benchmarks/accuracy/expected_particles.py

Simulated data sets of held-out structures, each of one specimen and one signal-to-noise ratio.
For each: the F1 that its scores promise, and how many particles there are for each that is
expected, where `gtpick-rt adapt` takes particles for faint and dense, and elsewhere.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.common import VERSION_2, circumstances, save
from gtpick_export.adapting import DENSE, FAINTLY
from gtpick_export.to_onnx import make_spec
from gtpick_model.real.teacher import RADIUS, detect_whole
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import libraries, make_tiles
from gtpick_model.weights import load_weights
from gtpick_rt.detection.threshold import expect
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.types import Picks

TILES, TILE_PX = 10, 256
EXTENT_PX = (16.0, 30.0)
COVERAGES = (0.05, 0.15, 0.35, 0.5)
SNR = (0.003, 0.1)


def data_sets(weights: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Figures of one simulated data set after another."""
    network, provenance = load_weights(weights)
    network.eval()
    spec = make_spec(network, weights.stem, "1", provenance)
    _, library = libraries(None, 120, views=24)
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
        expected = expect(np.concatenate([each.score for each in found]), spec.threshold)
        there = sum(len(each) for each in labels)
        area = TILES * TILE_PX**2
        yield {
            "snr": snr,
            "extent_px": extent_px,
            "promised_f1": expected.f1,
            "expected_coverage": expected.particles * spec.diameter_px**2 / area,
            "particles_for_each_expected": there / max(expected.particles, 1.0),
            "best_f1": curve(list(zip(found, labels, strict=True)), RADIUS * extent_px).best()[0],
        }


def main() -> None:
    """Simulate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=VERSION_2)
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-save", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for row in data_sets(arguments.weights, arguments.sets, arguments.seed):
        rows.append(row)
        print(" ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    kinds: dict[str, list[float]] = {"faint and dense": [], "others": []}
    for row in rows:
        faint = row["promised_f1"] < FAINTLY and row["expected_coverage"] > DENSE
        kinds["faint and dense" if faint else "others"].append(row["particles_for_each_expected"])
    result = circumstances(["python", *sys.argv]) | {
        "weights": arguments.weights.stem,
        "particles_for_each_expected": {
            kind: {"sets": len(values), "quartiles": np.quantile(values, (0.25, 0.5, 0.75)).round(2).tolist()}
            for kind, values in kinds.items()
            if values
        },
        "data_sets": rows,
    }
    print(result["particles_for_each_expected"])
    if not arguments.no_save:
        save(__file__, result)


if __name__ == "__main__":
    main()
