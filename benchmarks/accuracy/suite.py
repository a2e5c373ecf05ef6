"""Write the frozen simulated suite.

Micrographs with exact labels, of specimens that no training sees.

    python benchmarks/accuracy/suite.py OUT [--structures DIR]

Every specimen is imaged at every SNR, with densities and junk that vary; besides, there are
micrographs without any particle. OUT/<specimen>/*.mrc have their labels (*.star, whole particles
only) and what is not to be picked (*_negatives.star) beside them; OUT/suite.json lists all, with
one hash over pixels and labels, so that two people can tell whether they measured the same suite.
It is the same wherever the arithmetic is: another version of PyTorch or another kind of CPU may
differ in a last digit, and a simulator that was changed makes another suite.

The specimens were named before anything was measured on them, and none is among those of which
thresholds are chosen: the procedural ones are numbered beyond them, and validation takes no
entries. Entries need DIR, the folder of structures that `gtpick-rt train` takes; without it they
are left out.
"""

import argparse
import json
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.accuracy.suite_files import LISTING, SHAPE, Entry, Suite, fingerprint
from gtpick_model.simulator import junk
from gtpick_model.simulator.field import Conditions, Fields, simulate
from gtpick_model.simulator.micrographs import write_micrograph
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.structures import Structure, held_out, load_folder
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_rt.detection.picker import whole
from gtpick_rt.types import Picks

SPECIMENS = {
    "small": ("3mxw", "3eoa", "procedural-lobes-1085"),
    "medium": ("4fqi", "procedural-shell-1083", "procedural-dihedral-1130"),
    "large": ("4v7r", "procedural-ring-1015", "procedural-rod-1000"),
}
"""About 100, 170 and 290 Å: globular, elongated, hollow, ring-shaped and tubular ones."""
EXTENT_PX = {"small": 64, "medium": 88, "large": 120}
SNR = (0.01, 0.03, 0.1, 0.3)
"""Signal over noise variance inside particles, at a pixel of 1/100 of the diameter."""
COVERAGE = (0.08, 0.25, 0.6)
"""Particles times the square of their diameter, over the area."""
EMPTY_SNR = (0.03, 0.3)
EMPTIES: dict[str, tuple[junk.Kinds, float]] = {
    "plain": ((), 0),
    "carbon": (((junk.carbon, 1),), 1),
    "gold": (((junk.gold, 1),), 1),
    "ice": (((junk.contamination, 1), (junk.crystalline_ice, 0.5)), 1),
    "aggregates": ((), 9),
}
"""Kinds of junk with their shares, and the factor on all junk; at 9 every micrograph has
aggregates."""
SIDE, VIEWS, SEED = 128, 64, 20260101


class Plan(NamedTuple):
    """One micrograph to be simulated."""

    file: str
    structure: str
    size: str
    snr: float
    coverage: float
    """0 where there are to be no particles."""
    empty: str
    """What is there instead, see EMPTIES."""
    number: int
    """Of the structure in the suite: with `seed`, the seed."""
    seed: tuple[int, ...]


def structures(names: list[str], folder: Path | None) -> dict[str, Structure]:
    """Structures by name; entries are looked for in `folder`.

    Ends the program where training would see one.
    """
    wrong = [name for name in names if not held_out(name)]
    if wrong:
        sys.exit(f"not held out from training: {', '.join(wrong)}")
    made = [procedural(int(name.split("-")[2]), SIDE) for name in names if name.startswith("procedural-")]
    entries = load_folder(folder, SIDE) if folder else iter(())
    return {s.name: s for s in (*made, *entries) if s.name in names}


def plan() -> list[Plan]:
    """Every micrograph of the suite, those of one structure in a row.

    Each has a seed of its own.
    """
    plans = []
    number = 0
    for size, names in SPECIMENS.items():
        for name in names:
            number += 1
            for i, snr in enumerate(SNR):
                coverage = COVERAGE[(number + i) % len(COVERAGE)]
                plans.append(Plan(f"{name}/{name}_snr{snr:g}.mrc", name, size, snr, coverage, "", number, (i,)))
        for i, kind in enumerate(EMPTIES):  # aggregates and fragments are of the last structure, a procedural one
            for j, snr in enumerate(EMPTY_SNR):
                file = f"empty-{size}/{kind}_snr{snr:g}.mrc"
                plans.append(Plan(file, names[-1], size, snr, 0.0, kind, number, (100 + i, j)))
    return plans


def draw(library: ViewLibrary, planned: Plan) -> Fields:
    """Simulate one micrograph of the library's one structure; labelled are whole particles only."""
    fields = draw_all(library, planned)
    kept = whole(labels_of(fields), SHAPE[planned.size], EXTENT_PX[planned.size])
    return fields._replace(boxes=[torch.from_numpy(np.column_stack((kept.xy_px, kept.diameter_px)))])


def draw_all(library: ViewLibrary, planned: Plan) -> Fields:
    """The same with labels of those particles too that reach over the border."""
    kinds, factor = EMPTIES[planned.empty] if planned.empty else (junk.KINDS, 1.0)
    extent = float(EXTENT_PX[planned.size])
    conditions = Conditions(
        extent_px=(extent, extent),
        coverage=(planned.coverage,) * 2,
        snr=(planned.snr,) * 2,
        empty=float(bool(planned.empty)),
        junk=factor,
        filtered=0,
        prefiltered=0.0,
    )
    seed = (SEED, planned.number, *planned.seed)
    return simulate(library, 1, SHAPE[planned.size], conditions, seed, kinds=kinds)


def labels_of(fields: Fields) -> Picks:
    """The particles to pick on the first of the fields."""
    x, y, diameter_px = fields.boxes[0].numpy().T
    return Picks(np.column_stack((x, y)), diameter_px, np.ones_like(x))


def write_suite(out: Path, folder: Path | None) -> Suite:
    """Simulate and write the whole suite into `out`.

    `folder` is that of the structures beside the procedural ones.
    """
    found = structures([name for names in SPECIMENS.values() for name in names], folder)
    entries = []
    for (name, number), plans in groupby(plan(), lambda planned: (planned.structure, planned.number)):
        if name not in found:
            print(f"{name}: left out; it needs --structures", file=sys.stderr)
            continue
        library = build_library([found[name]], VIEWS, seed=SEED + number)
        for planned in plans:
            entries.append(_write(draw(library, planned), planned, out))
            print(f"{planned.file}: {entries[-1].diameter_A:.0f} Å, {entries[-1].particles} particles", flush=True)
    suite = Suite(out, tuple(entries))
    listing = {"sha256": suite.sha256, "micrographs": [asdict(entry) for entry in entries]}
    (out / LISTING).write_text(json.dumps(listing, indent=1) + "\n")
    return suite


def _write(fields: Fields, planned: Plan, out: Path) -> Entry:
    """Write one micrograph with its labels."""
    path = out / planned.file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_micrograph(fields, path)
    pixel = float(fields.pixel_A[0])
    return Entry(
        file=planned.file,
        specimen=path.parent.name,
        size=planned.size,
        snr=planned.snr,
        coverage=planned.coverage,
        diameter_A=EXTENT_PX[planned.size] * pixel,
        pixel_size_A=pixel,
        particles=len(fields.boxes[0]),
        sha256=fingerprint(path),
    )


def main() -> None:
    """Write the suite and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--structures", type=Path, help="folder of maps and models beside the procedural particles")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    suite = write_suite(arguments.out, arguments.structures)
    print(f"{len(suite.entries)} micrographs in {arguments.out}, sha256 {suite.sha256}")


if __name__ == "__main__":
    main()
