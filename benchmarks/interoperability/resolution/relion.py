"""RELION's way from picks to a map, without a human choice, each step once."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from benchmarks.interoperability.relion_classes import call
from benchmarks.interoperability.resolution.specimens import Volume

CLASSES, ITERATIONS = 8, 15
KEPT_SHARE, KEPT_WITHIN = 0.01, 1.5
"""A class is kept if it holds at least this share of the particles, and if its resolution, as
RELION estimates it, is at most this many times that of the best class."""
INITIAL_A = 40
"""To this resolution the map to begin with is low-passed."""


class Shown(NamedTuple):
    """How the particles of a project show on its micrographs, and how they are cut out."""

    diameter_A: float
    extent_px: float
    """The same on the micrograph."""
    box_px: int
    scaled_px: int
    """What boxes are reduced to."""
    symmetry: str
    ctf: bool
    """Whether the CTF is known, and corrected for."""


class Steps:
    """The steps of one picker's particles, in a folder of a project; each is done once."""

    def __init__(self, project: Path, name: str, shown: Shown) -> None:
        self.project, self.name, self.shown = project, name, shown
        self.folder = project / f"relion_{name}"
        self.folder.mkdir(exist_ok=True)

    @property
    def seconds(self) -> dict[str, float]:
        """What each step took."""
        path = self.folder / "seconds.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def is_done(self, step: str) -> bool:
        """Whether a step was done, in this session or an earlier one."""
        return step in self.seconds

    def once(self, step: str, do: Callable[[Path], None]) -> Path:
        """Do a step, unless it was done; returns its folder below the project's."""
        folder = self.folder / step
        if not self.is_done(step):
            print(time.strftime("%H:%M:%S"), self.name, step, flush=True)
            folder.mkdir(exist_ok=True)
            began = time.monotonic()
            do(folder.relative_to(self.project))
            taken = self.seconds | {step: round(time.monotonic() - began, 1)}
            (self.folder / "seconds.json").write_text(json.dumps(taken) + "\n")
        return folder

    def particles(self) -> Path:
        """Extract what was picked."""
        shown = self.shown
        radius = 0.575 * shown.extent_px * shown.scaled_px / shown.box_px
        return (
            self.once(
                "extract",
                lambda out: self._run(
                    f"relion_preprocess --i micrographs.star --coord_dir {self.name}/ --coord_suffix _autopick.star"
                    f" --part_dir {out}/ --part_star {out}/particles.star --extract --invert_contrast --norm"
                    f" --extract_size {shown.box_px} --scale {shown.scaled_px} --bg_radius {radius:.0f}"
                ),
            )
            / "particles.star"
        )

    def classified(self) -> Path:
        """Classify in 2-D; returns the folder, which has the particles of good classes too."""
        source = self.particles().relative_to(self.project)
        until_peak = " --ctf_intact_first_peak" if self.shown.ctf else ""

        def classify(out: Path) -> None:
            self._run(
                f"relion_refine --i {source} --o {out}/run {self._common()} --K {CLASSES} --iter {ITERATIONS}"
                f" --tau2_fudge 2 --psi_step 12 --offset_range 3 --offset_step 2{until_peak}"
                f" --j {len(os.sched_getaffinity(0))}"
            )
            keep(last_iteration(self.project / out), self.project / out / "selected.star")

        return self.once("class2d", classify)

    def selected(self) -> Path:
        """The particles of good classes."""
        return self.classified() / "selected.star"

    def halves(self, start: Path) -> tuple[Path, Path]:
        """Refine from a map, halves of the particles apart; returns their unfiltered maps."""
        source, start = self.selected().relative_to(self.project), start.relative_to(self.project)
        folder = self.once(
            "refine3d",
            lambda out: self._run(
                "mpirun --allow-run-as-root --oversubscribe -n 3 relion_refine_mpi --auto_refine"
                f" --split_random_halves --i {source} --o {out}/run --ref {start} --ini_high {INITIAL_A}"
                f" {self._common()} --sym {self.shown.symmetry} --healpix_order 2 --auto_local_healpix_order 3"
                " --auto_ignore_angles --auto_resol_angles --offset_range 3 --offset_step 2"
                " --low_resol_join_halves 40 --firstiter_cc --j 1"
            ),
        )
        return folder / "run_half1_class001_unfil.mrc", folder / "run_half2_class001_unfil.mrc"

    def postprocessed_A(self, half: Path, mask: Path, voxel_A: float) -> float:
        """Resolution in Å that `relion_postprocess` finds between the halves."""
        half, mask = half.relative_to(self.project), mask.relative_to(self.project)
        folder = self.once(
            "postprocess",
            lambda out: self._run(f"relion_postprocess --i {half} --mask {mask} --o {out}/run --angpix {voxel_A:.6f}"),
        )
        return float(cif.read_file(str(folder / "run.star")).find_block("general").find_value("_rlnFinalResolution"))

    def _common(self) -> str:
        return (
            f"{'--ctf ' if self.shown.ctf else ''}--norm --scale --flatten_solvent --zero_mask --oversampling 1"
            " --random_seed 1 --preread_images --dont_combine_weights_via_disc --pool 10"
            f" --particle_diameter {1.1 * self.shown.diameter_A:.0f}"
        )

    def _run(self, command: str) -> None:
        call(command, self.project)


class Classes(NamedTuple):
    """What RELION says of its classes, `(k,)` each."""

    share: NDArray[np.float64]
    resolution_A: NDArray[np.float64]

    def good(self) -> NDArray[np.bool_]:
        """Those to keep."""
        enough = self.share >= KEPT_SHARE
        best = self.resolution_A[enough].min(initial=np.inf)
        return enough & (self.resolution_A <= KEPT_WITHIN * best)


def last_iteration(folder: Path) -> Path:
    """How the names of the files begin that a classification in `folder` ends with."""
    return folder / f"run_it{ITERATIONS:03d}"


def read_classes(run: Path) -> Classes:
    """Read what the files of an iteration, whose names begin with `run`, say."""
    table = cif.read_file(f"{run}_model.star").find_block("model_classes")
    columns = ("_rlnClassDistribution", "_rlnEstimatedResolution")
    return Classes(*(np.array([float(word) for word in table.find_loop(column)]) for column in columns))


def keep(run: Path, out: Path) -> None:
    """Write the particles of `run`'s good classes as `out`."""
    good = read_classes(run).good()
    document = cif.read_file(f"{run}_data.star")
    block = document.find_block("particles")
    loop = block.find_loop("_rlnClassNumber").get_loop()
    at, width = loop.tags.index("_rlnClassNumber"), loop.width()
    rows = [loop.values[i : i + width] for i in range(0, len(loop.values), width)]
    kept = [row for row in rows if good[int(row[at]) - 1]]
    loop.set_all_values([list(column) for column in zip(*kept, strict=True)])
    document.write_file(str(out))


def count(particles: Path) -> int:
    """How many particles a STAR file lists."""
    return len(cif.read_file(str(particles)).find_block("particles").find_loop("_rlnImageName"))


def write_map(volume: Volume, path: Path, voxel_A: float) -> Path:
    """Write a map, unless it is there."""
    if not path.exists():
        with mrcfile.new(path) as mrc:
            mrc.set_data(volume)
            mrc.voxel_size = voxel_A
    return path
