"""Where particles come from: density maps, atomic models, and procedural assemblies.

A structure is brought to a canonical frame: a cube whose central ball of diameter `FILL` times the
side holds the particle, its centre of mass at the centre. Its extent in Å is kept beside it.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]

FILL = 0.8
"""Particle diameter in units of the canonical cube's side."""
HELD_OUT = 0.15
"""Share of structures never trained on."""
_MAPS = (".mrc", ".map")
_MODELS = (".pdb", ".cif", ".pdb.gz", ".cif.gz")
BETA_GALACTOSIDASE = frozenset(
    """
    1bgl 1bgm 1dp0 1f4a 1f4h 1hn1 1jyn 1jyv 1jyw 1jyx 1jz2 1jz3 1jz4 1jz5 1jz6 1jz7 1jz8 1px3 1px4 3czj
    3dym 3dyo 3dyp 3e1f 3i3b 3i3d 3i3e 3iap 3iaq 3j7h 3muy 3muz 3mv0 3mv1 3sep 3t08 3t09 3t0a 3t0b 3t0d
    3t2o 3t2p 3t2q 3vd3 3vd4 3vd5 3vd7 3vd9 3vda 3vdb 3vdc 4ckd 4dux 4duv 4duw 4ttg 4v40 4v41 4v44 4v45
    5a1a 6cvm 6drv 6tsh 6tsk 6tte 6x1q
    """.split()  # noqa: SIM905 - a table of names reads best as one
)
"""Entries of the protein on which published accuracy is measured: never simulated."""


@dataclass(frozen=True, eq=False)
class Structure:
    """One kind of particle."""

    name: str
    volume: Volume
    """`(n, n, n)` density in the canonical frame, at least 0."""
    extent_A: float
    """Diameter in Å of the ball about the centre of mass that holds nearly all of the density."""


def held_out(name: str) -> bool:
    """Whether a structure belongs to the evaluation set; decided by its name alone, so that no run
    can mix them up.
    """
    return hashlib.sha256(name.encode()).digest()[0] < HELD_OUT * 256


def to_canonical(name: str, density: Volume, voxel_A: float, side: int) -> Structure:
    """Centre a density `(z, y, x)`, measure its extent, and resample it into a cube of `side`
    voxels.
    """
    density = np.where(density > 0.1 * density.max(), density, 0).astype(np.float32)
    centre = np.array(ndimage.center_of_mass(density))
    coordinates = np.indices(density.shape, dtype=np.float32).reshape(3, -1) - centre[:, None]
    radius = np.sqrt((coordinates**2).sum(0))
    order = np.argsort(radius)
    inside = np.cumsum(density.ravel()[order])
    extent = 2 * float(radius[order][np.searchsorted(inside, 0.985 * inside[-1])]) + 1
    step = extent / (FILL * side)
    smooth = ndimage.gaussian_filter(density, 0.4 * step) if step > 1 else density
    offset = centre - step * (side - 1) / 2
    volume = ndimage.affine_transform(smooth, np.full(3, step), offset, (side,) * 3, order=1)
    return Structure(name, np.maximum(volume, 0, dtype=np.float32), extent * voxel_A)


def points_to_density(
    points_A: NDArray[np.float64], weight: NDArray[np.float64], voxel_A: float, blur_A: float
) -> Volume:
    """Atoms or beads `(n, 3)` to a density on a grid that holds them with a rim of three blurs."""
    rim = 3 * blur_A + voxel_A
    low = points_A.min(0) - rim
    shape = np.ceil((points_A.max(0) + rim - low) / voxel_A).astype(int)
    edges = [(0, int(n)) for n in shape]
    grid, _ = np.histogramdd((points_A - low) / voxel_A, bins=tuple(int(n) for n in shape), range=edges, weights=weight)
    return np.asarray(ndimage.gaussian_filter(grid.astype(np.float32), blur_A / voxel_A), dtype=np.float32)


def name_of(path: Path) -> str:
    """Name of an entry: maps, models and parts of one entry share it, and so fall on the same side
    of the split.
    """
    return re.split(r"[._-]", path.name.lower())[0]


def load_map(path: Path, side: int) -> Structure:
    """A density map in MRC format."""
    with mrcfile.open(path) as mrc:
        return to_canonical(name_of(path), np.asarray(mrc.data, dtype=np.float32), float(mrc.voxel_size.x), side)


def load_model(path: Path, side: int) -> Structure:
    """An atomic model in PDB or mmCIF format, gzipped or not; hydrogens are ignored."""
    # Columns 79-80 of a PDB line hold a charge that many programs fill with something else.
    model = gemmi.read_pdb(str(path), max_line_length=78) if ".pdb" in path.name else gemmi.read_structure(str(path))
    atoms = [
        (site.atom.pos.tolist(), site.atom.element.atomic_number)
        for site in model[0].all()
        if not site.atom.is_hydrogen()
    ]
    points = np.array([position for position, _ in atoms])
    weight = np.array([number for _, number in atoms], dtype=np.float64)
    return to_canonical(name_of(path), points_to_density(points, weight, 3.0, 3.0), 3.0, side)


def files_of(folder: Path) -> list[Path]:
    """Every map and model below a folder, in order of name; beta-galactosidase is left out.

    File names begin with the PDB entry: by it structures are split and beta-galactosidase is known.
    """
    named = (path for path in sorted(folder.rglob("*")) if name_of(path)[:4] not in BETA_GALACTOSIDASE)
    return [path for path in named if path.suffix in _MAPS or path.name.endswith(_MODELS)]


def load_folder(folder: Path, side: int) -> Iterator[Structure]:
    """The structures of `files_of` a folder, in cubes of `side` voxels."""
    for path in files_of(folder):
        yield load_map(path, side) if path.suffix in _MAPS else load_model(path, side)
