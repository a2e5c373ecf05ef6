"""What share of the picks of real micrographs ends in good 2-D classes, beside labels and crYOLO?

    python benchmarks/accuracy/prepare_real.py W/real --data DATA
    python benchmarks/interoperability/real_classes.py --work W --data DATA

RELION extracts and classifies what the public command picks on EMPIAR-10017 and EMPIAR-10028, what
the labels say, and on the first what crYOLO's coordinates say. The images are 8-bit and processed,
so there is no CTF to correct and no map is claimed. Good classes are those of relion.py's rule,
which a person would look at again: the averages are drawn. The specimens are in the training of
gtpick-nano. Writes results/real_classes.json and .png.
"""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np

from benchmarks.accuracy.labelled_sets import RealSet, read_set
from benchmarks.accuracy.real_peers import read_peers
from benchmarks.interoperability.projections import Images
from benchmarks.interoperability.relion_classes import call, star_table
from benchmarks.interoperability.resolution.pickers import write
from benchmarks.interoperability.resolution.relion import ITERATIONS, Classes, count, read_classes
from benchmarks.shared.common import circumstances, pick_command, result_path, save

SETS = ("empiar10017", "empiar10028")
CRYOLO = "crYOLO_CASSPERpaper"
"""Its folder among the coordinates of others."""
CLASSES = 16
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


def classify(judged: RealSet, folder: Path, name: str) -> Sorted:
    """Extract and classify the picks in `folder`/`name`, unless that was done."""
    box = 2 * round(BOX * judged.diameter_px / 2)
    out = folder / f"classes_{name}"
    run = out / f"run_it{ITERATIONS:03d}"
    if not Path(f"{run}_model.star").exists():
        out.mkdir(exist_ok=True)
        call(
            f"relion_preprocess --i micrographs.star --coord_dir {name}/ --coord_suffix _autopick.star"
            f" --part_dir {out.name}/ --part_star {out.name}/particles.star --extract --invert_contrast --norm"
            f" --extract_size {box} --scale {SCALED_PX} --bg_radius {SCALED_PX / BOX * 0.575:.0f}",
            folder,
        )
        call(
            f"relion_refine --i {out.name}/particles.star --o {out.name}/run --norm --scale --flatten_solvent"
            f" --zero_mask --K {CLASSES} --iter {ITERATIONS} --tau2_fudge 2 --oversampling 1 --psi_step 12"
            f" --offset_range 5 --offset_step 2 --random_seed 1 --preread_images --dont_combine_weights_via_disc"
            f" --particle_diameter {1.1 * judged.specimen.diameter_A:.0f} --pool 10"
            f" --j {len(os.sched_getaffinity(0))}",
            folder,
        )
    averages = np.asarray(mrcfile.read(f"{run}_classes.mrcs"), np.float32)
    return Sorted(averages, read_classes(run), count(out / "particles.star"))


def write_project(judged: RealSet, folder: Path, data: Path) -> list[str]:
    """Lay out a set for RELION, with the picks of each picker; returns their names."""
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
    stems = [micrograph.path.stem for micrograph in judged.micrographs]
    found = {"labels": dict(zip(stems, judged.labels, strict=True))}
    if judged.name == "empiar10017":
        found["crYOLO"] = read_peers(data)[CRYOLO]
    for name, picks in found.items():
        write(folder / name, picks)
    command = pick_command([Path("micrographs.star")], Path("ours"), None, judged.specimen.diameter_A)
    subprocess.run(command, cwd=folder, check=True)
    return [*found, "ours"]


def plot(rows: dict[str, Sorted], path: Path) -> None:
    """Averages, the largest class first; those of classes that are not good are dimmed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(rows), CLASSES, figsize=(1.1 * CLASSES, 1.5 * len(rows)), layout="constrained")
    for line, (name, each) in zip(panels, rows.items(), strict=True):
        good = each.classes.good()
        for panel, i in zip(line, np.argsort(-each.classes.share), strict=True):
            panel.imshow(each.averages[i], cmap="gray", alpha=1.0 if good[i] else 0.35)
            panel.set_title(f"{each.classes.share[i]:.0%}", fontsize=7)
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Classify all, print, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder whose real/ prepare_real.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    arguments = parser.parse_args()
    rows: dict[str, Sorted] = {}
    for name in SETS:
        judged = read_set(arguments.work / "real" / name)
        folder = (arguments.work / "classes" / name).resolve()
        for picker in write_project(judged, folder, arguments.data):
            row = rows[f"{name} {picker}"] = classify(judged, folder, picker)
            print(f"{name} {picker}: {row.share:.1%} of {row.particles} in good classes", flush=True)
    figures: dict[str, Any] = {
        name: {
            "particles": row.particles,
            "in_good_classes": round(row.share, 4),
            "good_classes": int(row.classes.good().sum()),
        }
        for name, row in rows.items()
    }
    save(__file__, circumstances(["python", __file__]) | figures)
    plot(rows, result_path(__file__, ".png"))


if __name__ == "__main__":
    main()
