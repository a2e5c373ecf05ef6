"""From picks to maps: what is reckoned beside RELION's own work."""

from pathlib import Path

import numpy as np
import pytest
from gemmi import cif
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.interoperability.map_resolution import SECTORS, recall_by_sector, sectors
from benchmarks.interoperability.resolution.pickers import Project, centre_errors, inside, to_picks
from benchmarks.interoperability.resolution.relion import Classes, keep
from benchmarks.interoperability.resolution.shells import resolution_A, shell_correlation, soft_mask
from benchmarks.interoperability.resolution.specimens import (
    Truth,
    around_two_folds,
    directions,
    true_map,
)
from gtpick_model.simulator.structures import points_to_density, to_canonical
from gtpick_rt.types import Picks


def clump(seed: int) -> NDArray[np.float64]:
    """A lopsided heap of atoms, `(n, 3)` in Å."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(centre, 6, (300, 3)) for centre in ((0, 0, 0), (25, 5, 0), (10, 20, 8))])


def test_copies_lie_about_three_two_fold_axes_and_do_not_overlap() -> None:
    molecule = clump(1)
    points = around_two_folds(molecule)
    assert len(points) == 4 * len(molecule)
    for sign in ((-1, -1, 1), (1, -1, -1), (-1, 1, -1)):
        turned = points * sign
        assert {tuple(p) for p in points.round(6) + 0.0} == {tuple(p) for p in turned.round(6) + 0.0}
    copies = points.reshape(4, -1, 3)
    assert all(np.linalg.norm(copies[0][:, None] - copy[None], axis=-1).min() > 2 for copy in copies[1:])


def test_no_copy_is_a_mirror_image() -> None:
    molecule = clump(2)
    first = around_two_folds(molecule)[: len(molecule)]
    before, after = (points - points.mean(0) for points in (molecule, first))
    turn = np.linalg.lstsq(before, after, rcond=None)[0]
    assert np.linalg.det(turn) == pytest.approx(1)


def test_the_true_map_is_centred_where_relion_has_its_centre() -> None:
    points = around_two_folds(clump(3))
    structure = to_canonical("clump", points_to_density(points, np.ones(len(points)), 2.0, 2.0), 2.0, 64)
    assert ndimage.center_of_mass(true_map(structure, 56)) == pytest.approx([28] * 3, abs=0.1)


def test_a_map_agrees_with_itself_and_noise_with_nothing() -> None:
    one, other = np.random.default_rng(4).normal(size=(2, 32, 32, 32)).astype(np.float32)
    assert shell_correlation(one, one) == pytest.approx(1)
    assert np.abs(shell_correlation(one, other)[4:]).max() < 0.2
    blurred = np.asarray(ndimage.gaussian_filter(one, 1.5), np.float32)
    curve = shell_correlation(blurred, blurred + 0.1 * other)
    assert curve[2] > 0.9 > 0.5 > curve[-1]


def test_resolution_is_where_the_curve_first_falls_below() -> None:
    curve = np.array([1, 1, 0.9, 0.6, 0.2, 0.7, 0.1])
    assert resolution_A(curve, 0.5, 100) == pytest.approx(100 / 3.25)
    assert resolution_A(curve, 0.05, 100) == pytest.approx(100 / 6)


def test_the_mask_holds_the_density_and_leaves_out_the_corners() -> None:
    volume = np.zeros((40, 40, 40), np.float32)
    volume[15:25, 15:25, 15:25] = 1
    mask = soft_mask(volume, 2.0)
    assert mask[15:25, 15:25, 15:25].min() == 1
    assert mask[0, 0, 0] == 0
    assert ((mask > 0.2) & (mask < 0.8)).any()


def test_good_classes_are_large_and_near_the_best() -> None:
    classes = Classes(np.array([0.5, 0.3, 0.195, 0.005]), np.array([10.0, 14.0, 16.0, 5.0]))
    assert classes.good().tolist() == [True, True, False, False]


def test_particles_of_good_classes_are_kept(tmp_path: Path) -> None:
    run = tmp_path / "run_it020"
    Path(f"{run}_model.star").write_text(
        "data_model_classes\n\nloop_\n_rlnReferenceImage #1\n_rlnClassDistribution #2\n_rlnEstimatedResolution #3\n"
        "1@c.mrcs 0.7 10.0\n2@c.mrcs 0.3 40.0\n"
    )
    Path(f"{run}_data.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\ndata_particles\n\nloop_\n_rlnImageName #1\n"
        "_rlnClassNumber #2\n1@p.mrcs 1\n2@p.mrcs 2\n3@p.mrcs 1\n"
    )
    keep(run, tmp_path / "selected.star")
    document = cif.read_file(str(tmp_path / "selected.star"))
    assert list(document.find_block("particles").find_loop("_rlnImageName")) == ["1@p.mrcs", "3@p.mrcs"]
    assert document.find_block("optics") is not None


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two micrographs, each with one particle of every view."""
    (tmp_path / "mics").mkdir()
    for number in range(2):
        (tmp_path / "mics" / f"sim_{number:04d}.mrc").touch()
    xy = np.stack(np.meshgrid(np.arange(50), np.arange(30)), -1).reshape(-1, 2) * 30 + 100
    every = len(directions())
    truth = Truth(np.repeat([0, 1], every), np.tile(xy, (2, 1)).astype(np.float32), np.tile(np.arange(every), 2))
    return Project(tmp_path, truth, 100.0, tmp_path)


def test_recall_is_told_by_the_direction_of_view(project: Project) -> None:
    polar = np.abs(directions()[:, 2]) > 0.8
    seen = {f"sim_{n:04d}": to_picks(project.truth.on(n)[~polar if n else slice(None)]) for n in range(2)}
    recall = recall_by_sector(project, seen)
    assert len(recall) == SECTORS
    assert recall[np.abs(sectors()[:, 2]) < 0.6].min() == 1
    assert recall[np.abs(sectors()[:, 2]) > 0.95].max() < 0.6


def test_what_relion_cuts_off_moves_centres(project: Project) -> None:
    found = {f"sim_{n:04d}": to_picks(project.truth.on(n) - np.float32(0.2)) for n in range(2)}
    errors = centre_errors(project, found)
    assert errors["rounded"] == 0
    assert errors["written"] == pytest.approx(0.2 * 2**0.5, abs=0.002)
    assert errors["cut_off"] == pytest.approx(2**0.5, abs=0.002)


def test_a_box_must_lie_on_the_micrograph() -> None:
    picks = to_picks(np.array([[10, 500], [500, 500], [500, 1790]], np.float32))
    assert isinstance(kept := inside(picks), Picks)
    assert kept.xy_px.tolist() == [[500, 500]]
