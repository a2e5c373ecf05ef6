"""Structures: a canonical frame of known size, folders of maps and models, and what must never be
simulated.
"""

import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.structures import (
    BETA_GALACTOSIDASE,
    FILL,
    HELD_OUT,
    Structure,
    Volume,
    held_out,
    load_folder,
    load_map,
    load_model,
    points_to_density,
    to_canonical,
)

SIDE = 32
ATOM = "ATOM  {:5d} {:<4} ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2}\n"


def ball_density(radius: float, shape: tuple[int, int, int], centre: tuple[float, float, float]) -> Volume:
    """A solid ball, in voxels, on a grid of any shape."""
    offset = np.indices(shape) - np.array(centre)[:, None, None, None]
    return ((offset**2).sum(0) <= radius**2).astype(np.float32)


def save_map(path: Path, density: Volume, voxel_A: float) -> Path:
    with mrcfile.new(path, density) as mrc:
        mrc.voxel_size = voxel_A
    return path


def save_model(path: Path, radius_A: float, hydrogens_at_A: float = 0) -> Path:
    """Carbon atoms that fill a ball about (100, 0, -50), and hydrogens far from it."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-radius_A, radius_A, (4000, 3))
    points = points[np.linalg.norm(points, axis=1) < radius_A] + (100, 0, -50)
    lines = [ATOM.format(i, " C", i, *p, "C") for i, p in enumerate(points, start=1)]
    if hydrogens_at_A:
        lines += [ATOM.format(i, " H", i, 100, hydrogens_at_A, -50, "H") for i in range(5000, 5500)]
    text = "".join([*lines, "END\n"])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def assert_canonical(structure: Structure) -> None:
    """Cubic, not negative, centred, and nearly all within the ball of diameter FILL."""
    volume = structure.volume
    assert volume.shape == (SIDE,) * 3
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert ndimage.center_of_mass(volume) == pytest.approx([(SIDE - 1) / 2] * 3, abs=0.5)
    radius = np.linalg.norm(np.indices(volume.shape) - (SIDE - 1) / 2, axis=0)
    assert volume[radius < FILL * SIDE / 2 + 1].sum() > 0.97 * volume.sum()
    assert volume[radius > 0.75 * FILL * SIDE / 2].any()


@pytest.mark.parametrize("radius_A", [30, 90])
def test_a_balls_diameter_is_its_extent_wherever_it_lies(radius_A: float) -> None:
    structure = to_canonical("ball", ball_density(radius_A / 3, (70, 80, 90), (31, 45.5, 52)), 3.0, SIDE)
    assert structure.extent_A == pytest.approx(2 * radius_A, rel=0.1)
    assert_canonical(structure)


def test_faint_solvent_does_not_count() -> None:
    density = ball_density(10, (40, 40, 40), (20, 20, 20))
    noisy = density + 0.05 * np.random.default_rng(0).random(density.shape).astype(np.float32)
    clean = to_canonical("clean", density, 3.0, SIDE).extent_A
    assert to_canonical("noisy", noisy, 3.0, SIDE).extent_A == pytest.approx(clean, rel=0.01)


def test_the_axes_keep_their_order() -> None:
    """A slab that is longest along x and thinnest along z stays so."""
    density = np.zeros((30, 40, 50), np.float32)
    density[10:14, 10:22, 5:41] = 1
    volume = to_canonical("slab", density, 3.0, SIDE).volume
    length = [np.ptp(axis) for axis in np.nonzero(volume > 0.5 * volume.max())]
    assert length[0] < length[1] < length[2]
    assert length[2] / length[1] == pytest.approx(3, rel=0.25)


@pytest.mark.parametrize("index", range(6))
def test_procedural_structures_are_canonical_and_of_a_proteins_size(index: int) -> None:
    structure = procedural(index, SIDE)
    assert_canonical(structure)
    assert 40 < structure.extent_A < 700
    again = procedural(index, SIDE)
    assert again.name == structure.name
    assert np.array_equal(again.volume, structure.volume)


def test_each_number_is_another_structure() -> None:
    first, second = procedural(0, SIDE), procedural(6, SIDE)
    assert first.name != second.name
    assert not np.array_equal(first.volume, second.volume)


def test_points_weigh_what_they_are_given() -> None:
    points, weight = np.array([[0.0, 0.0, 0.0], [60.0, 20.0, 10.0]]), np.array([1.0, 3.0])
    density = points_to_density(points, weight, 2.0, 4.0)
    assert density.sum() == pytest.approx(4, rel=0.01)
    halves = density[: density.shape[0] // 2].sum(), density[density.shape[0] // 2 :].sum()
    assert halves == pytest.approx((1, 3), rel=0.02)


def test_whether_a_structure_is_held_out_follows_from_its_name() -> None:
    names = [f"structure-{i}" for i in range(2000)]
    out = [held_out(name) for name in names]
    assert out == [held_out(name) for name in names]
    assert np.mean(out) == pytest.approx(HELD_OUT, abs=0.03)


def test_the_held_out_structures_are_the_same_in_every_version() -> None:
    """Else a network could be evaluated on structures that it was trained on."""
    names = ("procedural-chain-0", "procedural-ring-1", "procedural-shell-3", "procedural-dihedral-8", "4v4r", "1ahw")
    assert [name for name in names if held_out(name)] == [*names[1:4], "1ahw"]


def test_a_map_has_its_size_in_angstrom(tmp_path: Path) -> None:
    density = ball_density(12, (30, 34, 38), (15, 15, 19))
    structure = load_map(save_map(tmp_path / "1ABC_map.mrc", density, 5.0), SIDE)
    assert structure.name == "1abc"
    assert structure.extent_A == pytest.approx(120, rel=0.1)
    assert_canonical(structure)


@pytest.mark.parametrize("name", ["1ABC_target.pdb", "1abc.pdb.gz"])
def test_a_model_has_its_size_in_angstrom(tmp_path: Path, name: str) -> None:
    structure = load_model(save_model(tmp_path / name, 40), SIDE)
    assert structure.name == "1abc"
    assert structure.extent_A == pytest.approx(80, rel=0.15)
    assert_canonical(structure)


def test_maps_and_models_of_one_entry_are_one_structure_to_the_split(tmp_path: Path) -> None:
    density = ball_density(8, (20, 20, 20), (10, 10, 10))
    for name in ("1abc.mrc", "1ABC_5A.mrc", "1abc.half1.map"):
        save_map(tmp_path / name, density, 5.0)
    for name in ("1abc_A.pdb", "1Abc.b.pdb.gz"):
        save_model(tmp_path / name, 40)
    assert [s.name for s in load_folder(tmp_path, SIDE)] == ["1abc"] * 5


def test_hydrogens_are_ignored(tmp_path: Path) -> None:
    with_hydrogens = load_model(save_model(tmp_path / "2abc.pdb", 40, hydrogens_at_A=300), SIDE)
    assert with_hydrogens.extent_A == load_model(save_model(tmp_path / "1abc.pdb", 40), SIDE).extent_A


def test_a_folder_gives_its_maps_and_models_and_never_beta_galactosidase(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    save_map(tmp_path / "sub" / "1abc.mrc", ball_density(8, (20, 20, 20), (10, 10, 10)), 5.0)
    save_map(tmp_path / "9xyz.map", ball_density(8, (20, 20, 20), (10, 10, 10)), 5.0)
    save_model(tmp_path / "2abc.pdb.gz", 40)
    (tmp_path / "readme.txt").write_text("not a structure")
    for name in ("3iap_5A.mrc", "sub/3IAP.pdb", "5A1A.cif.gz", "1bgl_target.map"):
        (tmp_path / name).write_text("would fail if it were opened")
    assert [s.name for s in load_folder(tmp_path, SIDE)] == ["2abc", "9xyz", "1abc"]


def test_beta_galactosidases_names_can_match() -> None:
    assert all(len(name) == 4 and name == name.lower() for name in BETA_GALACTOSIDASE)
    assert {"3iap", "5a1a", "1bgl", "6x1q"} <= BETA_GALACTOSIDASE
