"""Two specimens that no training sees, as RELION projects of simulated micrographs.

Each is what an atomic model of the held-out half gives: one with symmetry, four copies of IscS-TusA
(3lvk, 88 kDa) set around three two-fold axes, an assembly of 350 kDa that nature does not know; and
one without, a haemagglutinin trimer with one Fab (4fqi, 186 kDa). Both were named before anything
was measured. The first is faint, so that pickers differ; the second is twice as clear, since
particles without symmetry give a map of a quarter of their number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import gemmi
import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.interoperability.relion_classes import KILOVOLTS, optics_row, star_table
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.micrographs import write_micrograph
from gtpick_model.simulator.structures import FILL, Structure, Volume, points_to_density, to_canonical
from gtpick_model.simulator.views import ViewLibrary, build_library, random_rotations

EXTENT_PX, SHAPE = 88, (1792, 2048)
"""Of a particle and of a micrograph, as the middle size of the suite."""
COVERAGE = 0.25
SIDE, VIEWS, SEED = 128, 1500, 20261129
BOX_PX = 132
"""Side of the boxes on the micrograph."""
VOXEL_A, BLUR_A = 2.0, 2.0


@dataclass(frozen=True)
class Specimen:
    """What is imaged, and what RELION is told of it."""

    entry: str
    symmetry: str
    snr: float
    """As of `gtpick-rt simulate`."""
    scaled_px: int
    """What boxes are reduced to: its voxels are so fine that no map ends at twice their size."""


SPECIMENS = {"symmetric": Specimen("3lvk", "D2", 0.05, 88), "asymmetric": Specimen("4fqi", "C1", 0.1, 64)}


class Truth(NamedTuple):
    """Every whole particle of a data set, `(n,)` each."""

    micrograph: NDArray[np.int64]
    xy_px: NDArray[np.float32]
    """`(n, 2)`"""
    view: NDArray[np.int64]
    """Its direction, one of `directions`."""

    def on(self, number: int) -> NDArray[np.float32]:
        """Centres on one micrograph, `(m, 2)`."""
        return self.xy_px[self.micrograph == number]


def load(specimen: Specimen, folder: Path) -> Structure:
    """The structure, its symmetry axes those of RELION; `folder` is that of the atomic models."""
    (path,) = folder.rglob(f"{specimen.entry.upper()}_target.pdb.gz")
    model = gemmi.read_pdb(str(path), max_line_length=78)[0]
    sites = [site.atom for site in model.all() if not site.atom.is_hydrogen()]
    points = np.array([atom.pos.tolist() for atom in sites])
    weight = np.array([atom.element.atomic_number for atom in sites], np.float64)
    if specimen.symmetry == "D2":
        points, weight = around_two_folds(points), np.tile(weight, 4)
    return to_canonical(specimen.entry, points_to_density(points, weight, VOXEL_A, BLUR_A), VOXEL_A, SIDE)


def around_two_folds(points_A: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four copies `(4 n, 3)` of a molecule `(n, 3)` about the two-fold axes x, y and z.

    The molecule lies in one quadrant about z, so that copies touch and do not overlap.
    """
    centred = points_A - points_A.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turned = centred @ axes.T * (1, 1, np.sign(np.linalg.det(axes)))
    turned[:, :2] += 1.5 - turned[:, :2].min(0)
    return np.concatenate([turned * sign for sign in ((1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1))])


def pixel_A(structure: Structure) -> float:
    """Of the micrographs."""
    return structure.extent_A / EXTENT_PX


def voxel_A(structure: Structure, scaled_px: int) -> float:
    """Of maps at the size of the reduced boxes."""
    return pixel_A(structure) * BOX_PX / scaled_px


def true_map(structure: Structure, scaled_px: int) -> Volume:
    """The structure at the size of the reduced boxes, `(n, n, n)`, centred at n // 2."""
    voxels = structure.volume.shape[0]
    step = voxel_A(structure, scaled_px) / (structure.extent_A / (FILL * voxels))
    smooth = ndimage.gaussian_filter(structure.volume, 0.4 * step)
    offset = (voxels - 1) / 2 - step * (scaled_px // 2)
    return np.asarray(
        ndimage.affine_transform(smooth, np.full(3, step), np.full(3, offset), (scaled_px,) * 3), np.float32
    )


def directions() -> NDArray[np.float64]:
    """Unit vectors `(VIEWS, 3)`, x, y, z of the map, along which each view looks."""
    rotation = random_rotations(VIEWS, torch.Generator().manual_seed(SEED))
    return np.asarray(rotation[:, :, 2].numpy(), np.float64)


def write_project(structure: Structure, out: Path, count: int, snr: float) -> Truth:
    """Simulate `count` micrographs into `out`/mics, and list them with their optics.

    What is there of an earlier call is used again.
    """
    kept = out / "truth.npz"
    if not kept.exists():
        (out / "mics").mkdir(parents=True, exist_ok=True)
        library = build_library([structure], VIEWS, seed=SEED)
        made = [_write(library, out / "mics" / f"sim_{i:04d}.mrc", i, snr) for i in range(count)]
        rows, xy, views = zip(*made, strict=True)
        pixel = f"{pixel_A(structure):.6f}"
        names = "OpticsGroupName OpticsGroup MicrographPixelSize MicrographOriginalPixelSize Voltage"
        groups = [f"{kV}kV {n} {pixel} {pixel} {kV} 2.7 0.1\n" for n, kV in enumerate(KILOVOLTS, 1)]
        optics = star_table("optics", f"{names} SphericalAberration AmplitudeContrast", groups)
        names = "MicrographName OpticsGroup DefocusU DefocusV DefocusAngle PhaseShift"
        (out / "micrographs.star").write_text(optics + star_table("micrographs", names, list(rows)))
        number = np.repeat(np.arange(count), [len(each) for each in xy])
        np.savez(kept, micrograph=number, xy_px=np.concatenate(xy), view=np.concatenate(views))
    with np.load(kept) as arrays:
        return Truth(arrays["micrograph"], arrays["xy_px"], arrays["view"])


def _write(
    library: ViewLibrary, path: Path, number: int, snr: float
) -> tuple[str, NDArray[np.float32], NDArray[np.int64]]:
    """Write one micrograph.

    Returns its row, and of its whole particles the centres `(m, 2)` and the views `(m,)`.
    """
    conditions = Conditions(
        extent_px=(EXTENT_PX,) * 2, coverage=(COVERAGE,) * 2, snr=(snr,) * 2, empty=0, filtered=0, prefiltered=0
    )
    fields = simulate(library, 1, SHAPE, conditions, (SEED, number))
    write_micrograph(fields, path)
    with mrcfile.open(path, "r+") as mrc:  # RELION reads float16 from 4 on
        mrc.set_data(np.asarray(mrc.data, np.float32))
    xy = fields.boxes[0][:, :2].numpy()
    rim, (height, width) = BOX_PX / 2, SHAPE
    whole = ((xy >= rim) & (xy <= (width - 1 - rim, height - 1 - rim))).all(1)
    return f"mics/{path.name} {optics_row(fields.optics)}\n", xy[whole], fields.views[0].numpy()[whole]
