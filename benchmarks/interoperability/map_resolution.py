"""Does it end in a better map? RELION's resolution by who picked.

    python benchmarks/interoperability/map_resolution.py --work W --structures DIR --topaz PROGRAM

Two specimens that no training sees, one with symmetry and one without, are simulated with junk and
each micrograph with optics of its own. Each picker's particles go the same way through RELION:
extraction, 2-D classification and a selection by a rule, a start from the true map low-passed to
40 Å, refinement of two halves apart, postprocessing. The true CTF parameters stand for their
estimation. Nothing is chosen by a person, and no threshold is tuned: ours is what `gtpick-rt pick`
finds; "surer" and "more" are two others, named beforehand. Topaz has the detector, scale and
threshold that find most, by the true particles. With --specimens and --pickers a part is done, and
what was done before is used again. Writes results/map_resolution.json and .png.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.interoperability.resolution import pickers, relion
from benchmarks.interoperability.resolution.pickers import PICKERS, RADIUS_PX, Project
from benchmarks.interoperability.resolution.shells import resolution_A, shell_correlation, soft_mask
from benchmarks.interoperability.resolution.specimens import (
    BOX_PX,
    EXTENT_PX,
    SPECIMENS,
    Specimen,
    Volume,
    directions,
    load,
    true_map,
    voxel_A,
    write_project,
)
from benchmarks.shared.common import circumstances, result_path, save
from benchmarks.shared.plots import plot
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.evaluate.matching import match
from gtpick_rt.types import Picks

SECTORS = 48
"""Parts of the sphere of directions, about as large as each other."""


class Maps(NamedTuple):
    """What refined maps are begun with and compared with."""

    true: Volume
    mask: Path
    start: Path


class DataSet(NamedTuple):
    """One specimen, simulated."""

    project: Project
    specimen: Specimen
    maps: Maps
    voxel_A: float

    @property
    def shown(self) -> relion.Shown:
        """How its particles show."""
        specimen = self.specimen
        return relion.Shown(self.project.diameter_A, EXTENT_PX, BOX_PX, specimen.scaled_px, specimen.symmetry, ctf=True)

    @property
    def box_A(self) -> float:
        """Side of its maps."""
        return self.voxel_A * self.specimen.scaled_px


def prepare(specimen: Specimen, folder: Path, arguments: argparse.Namespace) -> DataSet:
    """Simulate a specimen, unless that was done."""
    structure = load(specimen, arguments.structures)
    truth = write_project(structure, folder, arguments.micrographs, specimen.snr)
    project = Project(folder, truth, structure.extent_A, arguments.topaz)
    volume, length_A = true_map(structure, specimen.scaled_px), voxel_A(structure, specimen.scaled_px)
    mask = relion.write_map(soft_mask(volume, length_A), folder / "mask.mrc", length_A)
    start = relion.write_map(volume, folder / "start.mrc", length_A)
    return DataSet(project, specimen, Maps(volume, mask, start), length_A)


def judge(data: DataSet, name: str) -> dict[str, Any]:
    """From picks to a map: every figure of one picker."""
    project = data.project
    found = pickers.pick(name, project)
    taken, recall = evaluate(project.pairs(found), RADIUS_PX), recall_by_sector(project, found)
    steps = relion.Steps(project.folder, name, data.shown)
    halves = steps.halves(data.maps.start)
    one, other = (np.asarray(mrcfile.read(path), np.float32) for path in halves)
    mask = np.asarray(mrcfile.read(data.maps.mask), np.float32)
    truly = shell_correlation((one + other) / 2 * mask, data.maps.true * mask)
    return {
        "picked": taken.picks,
        "true": round(taken.precision * taken.picks),
        **{key: round(getattr(taken, key), 4) for key in ("precision", "recall", "f1")},
        "extracted": relion.count(steps.particles()),
        "kept": relion.count(steps.selected()),
        "halves_A": round(steps.postprocessed_A(halves[0], data.maps.mask, data.voxel_A), 3),
        "truth_A": round(resolution_A(truly, 0.5, data.box_A), 3),
        "centre_error_px": pickers.centre_errors(project, found),
        "least_recall_by_view": round(float(recall.min()), 4),
        "seconds": steps.seconds,
        "halves": shell_correlation(one * mask, other * mask).round(4).tolist(),
        "truth": truly.round(4).tolist(),
        "recall_by_sector": recall.round(4).tolist(),
    }


def sectors() -> NDArray[np.float64]:
    """Centres `(SECTORS, 3)` of about equal parts of the sphere, along a spiral."""
    z = 1 - (2 * np.arange(SECTORS) + 1) / SECTORS
    turn = np.arange(SECTORS) * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z**2)
    return np.column_stack((r * np.cos(turn), r * np.sin(turn), z))


def recall_by_sector(project: Project, found: dict[str, Picks]) -> NDArray[np.float64]:
    """The share of particles that were picked, by the direction from which they are seen."""
    hit = np.zeros(len(project.truth.view), bool)
    start = 0
    for picks, labels in project.pairs(found):
        hit[start + match(picks.xy_px, labels.xy_px, RADIUS_PX)[:, 1]] = True
        start += len(labels)
    sector = (directions() @ sectors().T).argmax(1)[project.truth.view]
    every = np.bincount(sector, minlength=SECTORS)
    return np.bincount(sector, hit, minlength=SECTORS) / np.maximum(every, 1)


def draw(result: dict[str, Any], path: Path) -> None:
    """Both correlations of every picker's maps, and recall over the sphere, a row a specimen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    results = result["specimens"]
    figure = plt.figure(figsize=(13, 3.8 * len(results)), layout="constrained")
    for row, (name, each) in enumerate(results.items()):
        for column, (key, level, title) in enumerate(
            (("halves", 0.143, "between halves"), ("truth", 0.5, "with truth"))
        ):
            panel = figure.add_subplot(len(results), 3, 3 * row + column + 1)
            for picker, figures in each["pickers"].items():
                frequency = np.arange(len(figures[key])) / each["box_A"]
                panel.plot(frequency, figures[key], label=f"{picker}: {figures[f'{key}_A']:.2f} Å")
            panel.axhline(level, color="grey", linewidth=0.8)
            panel.set(xlabel="1/Å", ylabel="FSC", title=f"{name} specimen, {title}", ylim=(-0.05, 1.05))
            panel.legend(fontsize=7)
        sphere = figure.add_subplot(len(results), 3, 3 * row + 3, projection="mollweide")
        x, y, z = sectors().T
        recall = each["pickers"].get("ours", next(iter(each["pickers"].values())))["recall_by_sector"]
        points = sphere.scatter(np.arctan2(y, x), np.arcsin(z), c=recall, vmin=0, vmax=1, s=90)
        sphere.set(title="recall by direction, ours", xticklabels=[], yticklabels=[])
        figure.colorbar(points, ax=sphere, shrink=0.7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what is asked for, and keep it with what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the projects, which are kept")
    parser.add_argument("--structures", type=Path, required=True, help="folder of atomic models")
    parser.add_argument("--topaz", type=Path, required=True, help="the topaz program, of an environment of its own")
    parser.add_argument("--micrographs", type=int, default=50, help="82 particles on each")
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=list(SPECIMENS))
    parser.add_argument("--pickers", nargs="+", choices=PICKERS, default=list(PICKERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = result_path(__file__, ".json")
    results: dict[str, Any] = json.loads(path.read_text())["specimens"] if path.exists() else {}
    for name in arguments.specimens:
        data = prepare(SPECIMENS[name], (arguments.work / name).resolve(), arguments)
        row = results.setdefault(name, {"pickers": {}})
        row |= {
            "entry": data.specimen.entry,
            "symmetry": data.specimen.symmetry,
            "snr": data.specimen.snr,
            "diameter_A": round(data.project.diameter_A, 1),
            "box_A": round(data.box_A, 2),
            "micrographs": len(data.project.micrographs),
            "particles": len(data.project.truth.view),
        }
        for picker in arguments.pickers:
            made = circumstances(["python", __file__])
            figures = judge(data, picker)
            row["pickers"][picker] = figures | {"date": made["date"], "commit": made["commit"]}
            print(
                name,
                picker,
                {key: figures[key] for key in ("picked", "true", "kept", "halves_A", "truth_A")},
                flush=True,
            )
            save(__file__, made | {"specimens": results})
    plot(path, draw)


if __name__ == "__main__":
    main()
