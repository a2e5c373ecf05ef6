"""How much rim of a tile must be left to its neighbours?

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/tile_rim.py WORK/real

A narrower rim needs fewer tiles. Each labelled set is picked with several rims, and with each on
several grids of tiles, for which grid it happens to be moves F1 as well. `f1` is of the first grid,
which picking uses, and `tiles` are its; the other figures are means over the grids. Tiles are
spread evenly, so that the rim is often wider than asked for, and two rims can lead to the same
tiles. `other_grid` is the F1 of the picks at the default threshold on another grid against those on
the first, within a tenth of the diameter. Nothing is chosen by a threshold here. Writes
results/tile_rim.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.accuracy.labelled_sets import read_set
from benchmarks.accuracy.prepare_real import SPECIMENS
from benchmarks.shared.common import circumstances, save
from gtpick_model.metrics import RADIUS
from gtpick_rt.detection.picker import Picker
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.types import Micrograph, Picks

RIMS_PX = (32, 24, 16, 12, 8)
GRIDS = ((0, 0), (77, 130), (40, 100), (120, 30))
"""Rows and columns by which the grid of tiles starts above and left of the micrograph."""
NEAR = 0.1


def measure(folder: Path, model: str | None) -> list[dict[str, Any]]:
    """Figures of one set with each rim."""
    judged = read_set(folder)
    diameter_A, micrographs = judged.specimen.diameter_A, judged.micrographs
    opened = open_picker(diameter_A, model=model, backend="cpu")
    rows = []
    for rim_px in RIMS_PX:
        picker = Picker(opened.backend, replace(opened.spec, margin_px=rim_px), diameter_A)
        grids = [[_pick(picker, each, grid) for each in micrographs] for grid in GRIDS]
        row = {"set": folder.name, "rim_px": rim_px, "tiles": sum(_tiles(picker, each) for each in micrographs)}
        rows.append(row | _figures(grids, judged.labels, picker.spec.threshold, judged.diameter_px))
        print(rows[-1], flush=True)
    return rows


def _tiles(picker: Picker, micrograph: Micrograph) -> int:
    return len(picker.tiles(picker.prepare(micrograph)))


def _pick(picker: Picker, micrograph: Micrograph, grid: tuple[int, int]) -> Picks:
    image = picker.prepare(micrograph)
    return picker.assemble(image, picker.infer(image, grid_offset=grid))


def _figures(
    grids: Sequence[Sequence[Picks]], labels: Sequence[Picks], threshold: float, diameter_px: float
) -> dict[str, float]:
    taken = [[found[found.score >= threshold] for found in grid] for grid in grids]
    curves = [curve(list(zip(grid, labels, strict=True)), RADIUS * diameter_px) for grid in grids]

    def f1(found: Sequence[Picks], wanted: Sequence[Picks], radius: float) -> float:
        return evaluate(list(zip(found, wanted, strict=True)), radius * diameter_px).f1

    figures = {
        "f1": f1(taken[0], labels, RADIUS),
        "f1_of_all_grids": fmean(f1(grid, labels, RADIUS) for grid in taken),
        "best_f1": fmean(each.best()[0] for each in curves),
        "ap": fmean(each.average_precision for each in curves),
        "other_grid": fmean(f1(grid, taken[0], NEAR) for grid in taken[1:]),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, metavar="WORK/real", help="folder that prepare_real.py wrote")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    result = circumstances(["python", __file__, str(arguments.real)])
    result["results"] = [row for name in SPECIMENS for row in measure(arguments.real / name, arguments.model)]
    save(__file__, result)


if __name__ == "__main__":
    main()
