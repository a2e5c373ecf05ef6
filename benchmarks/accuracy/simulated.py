"""F1 on simulated micrographs of held-out structures, by SNR, by diameter and by packing density.

Each point picks one simulated micrograph of every structure that it covers, at the model's default
threshold, with the particle's true diameter given; matches are one-to-one within a third of the
diameter. The structures neither train nor choose the threshold: those of the folder that are held
out, and procedural ones of higher numbers than training makes. Writes results/simulated.json and
.png, of another model results/simulated_<its name>.json and .png.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared.common import circumstances, result_path, save
from benchmarks.shared.plots import plot
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.structures import Structure, held_out, load_folder
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_rt import Micrograph, Picker, Picks
from gtpick_rt.detection.picker import whole
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.proof.opening import open_picker

SIDE, EXTENT = 768, 48.0
STANDARD = Conditions(
    extent_px=(EXTENT, EXTENT), coverage=(0.25, 0.25), snr=(0.05, 0.05), empty=0.0, filtered=0, prefiltered=0.3
)
SNR = (0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.3)
COVERAGE = (0.03, 0.08, 0.2, 0.4, 0.8)
PROCEDURAL = range(1000, 1120)
DIAMETER_A = ((80, 110), (110, 150), (150, 200), (200, 280), (280, 400))


def structures(folder: Path | None, side: int = 48) -> list[Structure]:
    """Those on which nothing was trained and nothing chosen."""
    made = [procedural(i, side) for i in PROCEDURAL]
    loaded = load_folder(folder, side) if folder else ()
    return [structure for structure in (*made, *loaded) if held_out(structure.name)]


def measure(library: ViewLibrary, indices: list[int], conditions: Conditions, loaded: Picker) -> dict[str, float]:
    """Pick one micrograph of each structure and pool the matches."""
    pairs = []
    for index in indices:
        fields = simulate(library.only(index), 1, (SIDE, SIDE), conditions, (7, index))
        pixel = float(fields.pixel_A[0])
        picker = Picker(loaded.backend, loaded.spec, EXTENT * pixel)
        picks = picker.pick(Micrograph(fields.images[0].numpy(), pixel, Path(f"{library.names[index]}.mrc")))
        truth = fields.boxes[0].numpy()
        labels = Picks(truth[:, :2], truth[:, 2], np.ones(len(truth), np.float32))
        # Particles that reach over the border are not picked, nor counted as missed.
        pairs.append((picks[picks.score >= picker.spec.threshold], whole(labels, (SIDE, SIDE), EXTENT)))
    result = evaluate(pairs, EXTENT / 3)
    return {"micrographs": len(pairs), "precision": result.precision, "recall": result.recall, "f1": result.f1}


def draw(result: dict[str, Any], path: Path) -> None:
    """Three panels: F1, precision and recall against each condition."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
    titles = {
        "snr": "SNR at 1/100 diameter per pixel",
        "diameter": "diameter (Å)",
        "coverage": "particles × diameter² / area",
    }
    for panel, (axis, points) in zip(panels, result["points"].items(), strict=True):
        labels = [str(point["at"]) for point in points]
        for name, colour, marker in (("f1", "#000000", "o"), ("precision", "#0072B2", "^"), ("recall", "#D55E00", "v")):
            panel.plot(labels, [point[name] for point in points], color=colour, marker=marker, label=name)
        panel.set(xlabel=titles[axis], ylim=(0, 1))
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure every point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, help="folder of maps and models beside the procedural particles")
    parser.add_argument("--model", help="name or path of a model; default: the one that ships")
    parser.add_argument("--most", type=int, default=24, help="structures per point")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    library = build_library(structures(arguments.structures), views=48, seed=2)
    every = list(range(len(library.names)))
    some = every[:: max(1, len(every) // arguments.most)][: arguments.most]
    points: dict[str, list[dict[str, float | str]]] = {"snr": [], "diameter": [], "coverage": []}
    cases = [("snr", f"{v}", some, replace(STANDARD, snr=(v, v))) for v in SNR]
    for low, high in DIAMETER_A:
        inside = [i for i in every if low <= library.extent_A[i] < high][: arguments.most]
        cases.append(("diameter", f"{low}-{high}", inside, STANDARD))
    loaded = open_picker(100.0, model=arguments.model)
    cases += [("coverage", f"{v}", some, replace(STANDARD, coverage=(v, v))) for v in COVERAGE]
    for axis, at, indices, conditions in cases:
        if not indices:
            print(axis, at, "no structure held out")
            continue
        figures = measure(library, indices, conditions, loaded)
        points[axis].append({"at": at, **figures})
        print(axis, at, {k: round(v, 3) for k, v in figures.items()}, flush=True)
    result = {
        "model": loaded.spec.name,
        "version": loaded.spec.version,
        "threshold": loaded.spec.threshold,
        "rule": "one-to-one, centres within a third of the diameter, default threshold",
        "structures": len(every),
        "points": points,
    }
    other = f"_{Path(arguments.model).stem}" if arguments.model else ""
    save(__file__, {**circumstances(sys.argv), **result}, f"{other}.json")
    plot(result_path(__file__, f"{other}.json"), draw)


if __name__ == "__main__":
    main()
