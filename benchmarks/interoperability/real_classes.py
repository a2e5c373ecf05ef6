"""What share of the picks of real micrographs ends in good 2-D classes, beside labels and crYOLO?

    python benchmarks/accuracy/prepare_real.py W/real --data DATA
    python benchmarks/interoperability/real_classes.py --work W --data DATA

RELION extracts and classifies what the public command picks on EMPIAR-10017 and EMPIAR-10028, what
the labels say, and on the first what crYOLO's coordinates say, as in map_resolution.py. The images
are 8-bit and processed, so there is no CTF to correct and no map is claimed. Good classes are those
of relion.py's rule, which a person would look at again: the averages are drawn. The specimens are
in the training of gtpick-nano. With --pickers a part is done, and what was done before is used
again. Writes results/real_classes.json and .png.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.real_peers import read_peers
from benchmarks.interoperability.projections import Images
from benchmarks.interoperability.relion_classes import star_table
from benchmarks.interoperability.resolution.pickers import write
from benchmarks.interoperability.resolution.relion import (
    CLASSES,
    Classes,
    Shown,
    Steps,
    count,
    last_iteration,
    read_classes,
)
from benchmarks.shared.common import circumstances, pick_command, result_path, save

PICKERS = ("labels", "crYOLO", "ours")
SETS = {"empiar10017": PICKERS, "empiar10028": ("labels", "ours")}
"""And who has picked them."""
CRYOLO = "crYOLO_CASSPERpaper"
"""Its folder among the coordinates of others."""
BOX, SCALED_PX = 1.5, 48
"""Side of the boxes in diameters, and what they are reduced to."""


class Sorted(NamedTuple):
    """Particles in classes."""

    averages: Images
    classes: Classes
    particles: int

    @property
    def share(self) -> float:
        """Of particles in good classes."""
        return float(self.classes.share[self.classes.good()].sum())

    @property
    def figures(self) -> dict[str, Any]:
        """What is published of them."""
        good = int(self.classes.good().sum())
        return {"particles": self.particles, "in_good_classes": round(self.share, 4), "good_classes": good}


def steps_of(judged: RealSet, folder: Path, picker: str) -> Steps:
    """What RELION does with the particles of one picker."""
    diameter_A, box = judged.specimen.diameter_A, 2 * round(BOX * judged.diameter_px / 2)
    return Steps(folder, picker, Shown(diameter_A, judged.diameter_px, box, SCALED_PX, "C1", ctf=False))


def read_sorted(steps: Steps) -> Sorted:
    """Extract and classify, unless that was done, and read what has come of it."""
    run = last_iteration(steps.classified())
    averages = np.asarray(mrcfile.read(f"{run}_classes.mrcs"), np.float32)
    return Sorted(averages, read_classes(run), count(steps.particles()))


def write_project(judged: RealSet, folder: Path) -> None:
    """Lay out the micrographs of a set for RELION."""
    mics = folder / "mics"
    mics.mkdir(parents=True, exist_ok=True)
    for micrograph in judged.micrographs:
        if not (mics / micrograph.path.name).exists():
            (mics / micrograph.path.name).symlink_to(micrograph.path.resolve())
    pixel = f"{judged.micrographs[0].pixel_size_A:.4f}"
    names = "OpticsGroupName OpticsGroup MicrographPixelSize MicrographOriginalPixelSize Voltage"
    group = [f"one 1 {pixel} {pixel} 300 2.7 0.1\n"]
    optics = star_table("optics", f"{names} SphericalAberration AmplitudeContrast", group)
    rows = [f"mics/{micrograph.path.name} 1\n" for micrograph in judged.micrographs]
    (folder / "micrographs.star").write_text(optics + star_table("micrographs", "MicrographName OpticsGroup", rows))


def pick(picker: str, judged: RealSet, folder: Path, data: Path) -> None:
    """Leave what a picker finds in its folder of the project."""
    if picker == "ours":
        command = pick_command([Path("micrographs.star")], Path(picker), None, judged.specimen.diameter_A)
        subprocess.run(command, cwd=folder, check=True)
    elif picker == "crYOLO":
        write(folder / picker, read_peers(data)[CRYOLO])
    else:
        stems = [micrograph.path.stem for micrograph in judged.micrographs]
        write(folder / picker, dict(zip(stems, judged.labels, strict=True)))


def plot(rows: dict[str, Sorted], path: Path) -> None:
    """Averages, the largest class first; those of classes that are not good are dimmed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    size = (1.1 * CLASSES, 1.5 * len(rows))
    figure, panels = plt.subplots(len(rows), CLASSES, figsize=size, layout="constrained", squeeze=False)
    for line, (name, each) in zip(panels, rows.items(), strict=True):
        good = each.classes.good()
        for panel, i in zip(line, np.argsort(-each.classes.share), strict=True):
            panel.imshow(each.averages[i], cmap="gray", alpha=1.0 if good[i] else 0.35)
            panel.set_title(f"{each.classes.share[i]:.0%}", fontsize=7)
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Classify what is asked for, and keep it with what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder whose real/ prepare_real.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--pickers", nargs="+", choices=PICKERS, default=list(PICKERS))
    arguments = parser.parse_args()
    path = result_path(__file__, ".json")
    results: dict[str, Any] = json.loads(path.read_text())["sets"] if path.exists() else {}
    rows: dict[str, Sorted] = {}
    for name, pickers in SETS.items():
        judged = read_set(arguments.work / "real" / name)
        folder = (arguments.work / "classes" / name).resolve()
        write_project(judged, folder)
        for picker in pickers:
            steps = steps_of(judged, folder, picker)
            if picker in arguments.pickers:
                made = circumstances(["python", __file__])
                pick(picker, judged, folder, arguments.data)
                figures = read_sorted(steps).figures
                results.setdefault(name, {})[picker] = figures | {"date": made["date"], "commit": made["commit"]}
                print(name, picker, figures, flush=True)
                save(__file__, made | {"sets": results})
            if steps.is_done("class2d"):
                rows[f"{name} {picker}"] = read_sorted(steps)
    plot(rows, result_path(__file__, ".png"))


if __name__ == "__main__":
    main()
