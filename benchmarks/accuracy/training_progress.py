"""F1 against training tiles, on held-out simulated tiles and on real micrographs.

    python benchmarks/accuracy/training_progress.py RUN [RUN ...]

RUN is a folder of `gtpick-rt train`, which keeps the weights of each of its evaluations. Real
micrographs are those of empiar10017.py, by its rule, at each network's own default threshold; the
simulated figure is the run's own, at the best threshold. The learning rate falls to nothing at the
end of a run, so points before it are of networks that were still moving.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.accuracy.empiar10017 import DIAMETER_PX, RADIUS_PX, RULE
from benchmarks.shared.common import DATA, DIAMETER_A, circumstances, convert, result_path, save
from benchmarks.shared.plots import plot
from gtpick_export.to_onnx import export_onnx, make_spec
from gtpick_model.weights import load_weights
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import Picks


def on_real(weights: Path, micrographs: list[Path], labels: list[Picks]) -> dict[str, float]:
    """Figures of one network on the real micrographs."""
    network, provenance = load_weights(weights)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export_onnx(network, make_spec(network, weights.stem, "0", provenance), model)
        picker = open_picker(DIAMETER_A, model=str(model))
    found = [picker.pick(read_micrograph(path)) for path in micrographs]
    picks = [p[p.score >= picker.spec.threshold] for p in found]
    figures = evaluate(list(zip(picks, labels, strict=True)), RADIUS_PX)
    tiles = int(provenance["tiles_128px"])
    return {"tiles_128px": tiles, "precision": figures.precision, "recall": figures.recall, "f1": figures.f1}


def follow(run: Path, micrographs: list[Path], labels: list[Picks]) -> dict[str, Any]:
    """Every evaluation of a run, with the real figures beside the simulated ones."""
    record = json.loads((run / "curve.json").read_text())
    points = []
    for point in record["curve"]:
        real = on_real(run / f"step_{point['step']:06d}.safetensors", micrographs, labels)
        points.append({"simulated_best_f1": point["best_f1"], **real})
        print(run.name, {key: round(value, 3) for key, value in points[-1].items()}, flush=True)
    return {"variant": record["config"]["name"], "points": points}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw both figures of every run, and so the gap between them."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for run, colour in zip(result["runs"], ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        tiles = [point["tiles_128px"] for point in run["points"]]
        for key, style, what in (("simulated_best_f1", "-", "simulated"), ("f1", "--", "real, zero-shot")):
            values = [point[key] for point in run["points"]]
            axes.plot(tiles, values, style, marker="o", color=colour, label=f"{run['variant']}: {what}")
    axes.set(xlabel="training tiles of 128 px", ylabel="F1")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Follow each run, write the figures and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of training runs")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images and labels (README.md)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        micrographs = convert(arguments.data, Path(folder))
        labels = [read_coordinates(arguments.data / "labels" / f"{m.stem}.csv", DIAMETER_PX) for m in micrographs]
        runs = [follow(run, micrographs, labels) for run in arguments.runs]
    save(__file__, circumstances(sys.argv) | {"rule": RULE, "runs": runs})
    plot(result_path(__file__, ".json"), draw)


if __name__ == "__main__":
    main()
