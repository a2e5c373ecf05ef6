"""Are picks what 2-D classification needs? RELION's averages beside true projections.

    python benchmarks/interoperability/relion_classes.py --structures DIR

The 20S proteasome is simulated as the specimens of the suite are, junk included, each micrograph
with its own optics. The public command picks at the threshold that it finds, `relion_preprocess`
extracts from its STAR files, and `relion_refine` classifies: nothing is selected or moved in
between. The true CTF parameters stand for their estimation; CTFs are ignored until their first
peak, RELION's option for classes that run empty, as some do here without it. Each average is
compared with projections of the structure, seen through that first peak, from directions all over
the sphere: turned, shifted and, as a class may be of either hand, mirrored. What a correlation
means is told by those with projections of another structure.

Judged are coordinates and what RELION makes of them, not how well new particles are found: images
of this structure, chosen because everyone knows its views, were among those that the network was
trained on. Writes results/relion_classes.json and docs/class_averages.png.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from gemmi import cif
from numpy.typing import NDArray

from benchmarks.accuracy.suite import EXTENT_PX, Plan, draw
from benchmarks.interoperability.projections import KILOVOLTS, VIEWS, Images, Likeness, most_alike
from benchmarks.shared.common import ROOT, circumstances, pick_command, save
from gtpick_model.simulator.micrographs import write_micrograph
from gtpick_model.simulator.optics import Optics
from gtpick_model.simulator.structures import Structure, held_out, load_map
from gtpick_model.simulator.views import build_library

STRUCTURE, OTHER = "3j9i", "1bxn"
"""The 20S proteasome; and another symmetric complex of about that size, Rubisco."""
SIDE = 128
"""Voxels along a structure's cube."""
SIZE, SNR, COVERAGE, NUMBER = "large", 0.1, 0.4, 100
"""As in the suite, which has no structure of this number."""
EXTENT = EXTENT_PX[SIZE]
BOX, SCALED = 180, 56
"""Side of the boxes in px of the micrograph, and what they are reduced to."""
DIAMETER = EXTENT * SCALED / BOX
"""Of a particle in its reduced box, in px."""
PICTURE = ROOT / "docs" / "class_averages.png"


def load_structure(name: str, folder: Path) -> Structure:
    """Load a density map from anywhere in `folder`; ends the program where it is not there."""
    paths = sorted(folder.rglob(f"{name}.mrc"))
    if not paths:
        sys.exit(f"no {name}.mrc in {folder}: name the folder of density maps with --structures")
    return load_map(paths[0], SIDE)


def simulate(structure: Structure, out: Path, count: int) -> None:
    """Write micrographs into `out`/mics, labels into `out`/truth, and `out`/micrographs.star."""
    library = build_library([structure], VIEWS, seed=NUMBER)
    (out / "mics").mkdir(parents=True)
    (out / "truth").mkdir()
    rows = []
    for i in range(count):
        path = out / "mics" / f"sim_{i:04d}.mrc"
        fields = draw(library, Plan(path.name, STRUCTURE, SIZE, SNR, COVERAGE, "", NUMBER, (i,)))
        write_micrograph(fields, path)
        path.with_suffix(".star").rename(out / "truth" / f"{path.stem}.star")
        with mrcfile.open(path, "r+") as mrc:  # RELION reads float16 from 4 on
            mrc.set_data(np.asarray(mrc.data, np.float32))
        rows.append(f"mics/{path.name} {optics_row(fields.optics)}\n")
    pixel = f"{structure.extent_A / EXTENT:.6f}"
    groups = [f"{kV}kV {group} {pixel} {pixel} {kV} 2.7 0.1\n" for group, kV in enumerate(KILOVOLTS, 1)]
    names = "OpticsGroupName OpticsGroup MicrographPixelSize MicrographOriginalPixelSize Voltage SphericalAberration"
    optics = star_table("optics", f"{names} AmplitudeContrast", groups)
    names = "MicrographName OpticsGroup DefocusU DefocusV DefocusAngle PhaseShift"
    (out / "micrographs.star").write_text(optics + star_table("micrographs", names, rows))


def optics_row(optics: Optics) -> str:
    """Group, greatest and least defocus in Å, angle of the greatest and phase shift in degrees."""
    group = KILOVOLTS.index(round(float(optics.voltage_kV[0]))) + 1
    mean, half = float(optics.defocus_A[0]), float(optics.defocus_A[0] * optics.astigmatism[0]) / 2
    angle, shift = (np.degrees(float(x[0])) for x in (optics.astigmatism_angle, optics.phase_shift))
    return f"{group} {mean + half:.1f} {mean - half:.1f} {angle:.2f} {shift:.2f}"


def star_table(block: str, names: str, rows: list[str]) -> str:
    """One table of a STAR file of RELION 3.1."""
    header = "".join(f"_rln{name} #{i}\n" for i, name in enumerate(names.split(), 1))
    return f"\n# version 30001\n\ndata_{block}\n\nloop_\n{header}{''.join(rows)}\n"


def call(command: str, folder: Path) -> str:
    """Run a program of RELION in `folder`; returns what it prints.

    Ends the program where it fails.
    """
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\nfailed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def classify(out: Path, diameter_A: float, classes: int, iterations: int) -> tuple[Images, NDArray[np.intp]]:
    """Extract and classify what was picked.

    Returns the averages `(k, n, n)`, and of each particle its class, 0 to k - 1.
    """
    call(
        "relion_preprocess --i micrographs.star --coord_dir picks/ --coord_suffix _autopick.star"
        " --part_dir Extract/ --part_star Extract/particles.star --extract --invert_contrast --norm"
        f" --extract_size {BOX} --scale {SCALED} --bg_radius {0.575 * DIAMETER:.0f}",
        out,
    )
    (out / "Class2D").mkdir()
    call(
        "relion_refine --i Extract/particles.star --o Class2D/run --ctf --norm --scale --flatten_solvent --zero_mask"
        f" --K {classes} --iter {iterations} --tau2_fudge 2 --particle_diameter {1.1 * diameter_A:.0f}"
        " --ctf_intact_first_peak --oversampling 1 --psi_step 12 --offset_range 5 --offset_step 2 --random_seed 1"
        f" --preread_images --dont_combine_weights_via_disc --pool 3 --j {len(os.sched_getaffinity(0))}",
        out,
    )
    last = f"Class2D/run_it{iterations:03d}"
    averages = np.asarray(mrcfile.read(out / f"{last}_classes.mrcs"), np.float32)
    column = cif.read_file(str(out / f"{last}_data.star")).find_block("particles").find_loop("_rlnClassNumber")
    return averages, np.array([int(number) for number in column]) - 1


def plot(averages: Images, counts: NDArray[np.intp], found: list[Likeness], path: Path) -> None:
    """Averages, the largest class first, and below each the projection most like it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = (len(counts) + 1) // 2
    figure, panels = plt.subplots(4, columns, figsize=(1.9 * columns, 8.6), layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for rank, i in enumerate(np.argsort(-counts)):
        row, column = 2 * (rank // columns), rank % columns
        for panel, image in zip(panels[row : row + 2, column], (averages[i], found[i].image), strict=True):
            panel.imshow(
                image,
                cmap="gray",
                vmin=np.percentile(image, 2),
                vmax=np.percentile(image, 99.9),
                interpolation="bicubic",
            )
        panels[row, column].set_title(f"class of {counts[i]}", fontsize=9)
        panels[row + 1, column].set_title(f"projection, r = {found[i].correlation:.2f}", fontsize=9)
    figure.savefig(path, dpi=100)


def measure(folder: Path, out: Path, micrographs: int, classes: int, iterations: int) -> dict[str, Any]:
    """Simulate, pick, extract, classify, compare and draw."""
    structure = load_structure(STRUCTURE, folder)
    simulate(structure, out, micrographs)
    command = pick_command([Path("micrographs.star")], Path("picks"), None, structure.extent_A)
    subprocess.run(command, cwd=out, check=True)
    summary = json.loads((out / "picks" / "summary.json").read_text())
    started = time.monotonic()
    averages, members = classify(out, structure.extent_A, classes, iterations)
    minutes = (time.monotonic() - started) / 60
    counts = np.bincount(members, minlength=classes)
    pixel_A = structure.extent_A / DIAMETER
    found = most_alike(averages, structure, DIAMETER, pixel_A)
    other = most_alike(averages, load_structure(OTHER, folder), DIAMETER, pixel_A)
    plot(averages, counts, found, PICTURE)
    rows = [
        {"particles": int(counts[i]), "correlation": found[i].correlation, "with_other": other[i].correlation}
        for i in np.argsort(-counts)
    ]
    return {
        "model": summary["model"],
        "threshold": summary["parameters"]["threshold"],
        "relion": call("relion_refine --version", out).split()[2],
        "structure": STRUCTURE,
        "other_structure": OTHER,
        "held_out": held_out(STRUCTURE),
        "diameter_A": structure.extent_A,
        "pixel_size_A": structure.extent_A / EXTENT,
        "snr": SNR,
        "micrographs": micrographs,
        "picked": summary["totals"]["picks"],
        "extracted": len(members),
        "iterations": iterations,
        "relion_minutes": minutes,
        "classes": rows,
    }


def take(
    structures: Path, work: Path | None = None, micrographs: int = 20, classes: int = 8, iterations: int = 25
) -> dict[str, Any]:
    """Measure, print, save and draw; returns what the picture shows.

    Ends the program where RELION is not installed.
    """
    if shutil.which("relion_refine") is None:
        sys.exit("relion_refine is not on the PATH: install RELION (Debian's package relion)")
    torch.set_num_threads(1)
    made = circumstances(["python", __file__])  # before the picture is drawn, which is a file of the project
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(structures, work or Path(temporary) / "project", micrographs, classes, iterations)
    print("\n particles in class   most alike projection   of another structure")
    for row in result["classes"]:
        print(f"{row['particles']:19} {row['correlation']:23.3f} {row['with_other']:22.3f}")
    print(f"{result['picked']} picked, {result['extracted']} extracted")
    save(__file__, made | result)
    return {"of": f"simulated {STRUCTURE}", "diameter_A": result["diameter_A"], "picks": result["picked"]}


def main() -> None:
    """Measure as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, default=ROOT.parent / "shared" / "data" / "structures")
    parser.add_argument("--work", type=Path, help="new folder for the project of RELION, which is kept")
    parser.add_argument("--micrographs", type=int, default=20)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=25)
    arguments = parser.parse_args()
    take(arguments.structures, arguments.work, arguments.micrographs, arguments.classes, arguments.iterations)


if __name__ == "__main__":
    main()
