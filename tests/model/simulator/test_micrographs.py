"""Simulated micrographs on disk, read back as the runtime reads any other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from gtpick_model.simulator import junk
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.junk import Junk
from gtpick_model.simulator.micrographs import _objects, write_micrographs
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.reading.micrographs import read_micrograph

SHAPE = (80, 130)


def test_the_runtime_reads_back_what_was_simulated(balls: ViewLibrary, lone: Conditions, tmp_path: Path) -> None:
    crowded = replace(lone, coverage=(0.2, 0.2))
    written = write_micrographs(balls, tmp_path / "new" / "out", 2, SHAPE, crowded, seed=5)
    assert [path.name for path in written] == ["sim_0000.mrc", "sim_0001.mrc"]
    for i, path in enumerate(written):
        fields = simulate(balls, 1, SHAPE, crowded, (5, 2, i))
        micrograph = read_micrograph(path)
        labels = read_coordinates(path.with_suffix(".star"), 20)
        assert micrograph.pixel_size_A == pytest.approx(float(balls.extent_A[0]) / 20, rel=1e-5)
        np.testing.assert_allclose(labels.xy_px, fields.boxes[0][:, :2].numpy(), atol=0.0051)
        image = fields.images[0].numpy()
        np.testing.assert_allclose(micrograph.data, (image - image.mean()) / image.std(), atol=0.01)


def test_what_is_not_to_be_picked_stands_in_a_list_of_its_own(
    balls: ViewLibrary, lone: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two squares of contamination, and the fragments of the third of these micrographs that has
    some.
    """

    def squares(rng: np.random.Generator, shape: tuple[int, int], *_: object) -> Junk:
        region = torch.zeros(shape, dtype=torch.bool)
        region[10:21, 100:111] = region[30:35, 8:13] = True
        return Junk(torch.zeros(shape), region)

    monkeypatch.setattr(junk, "KINDS", ((squares, 1e9),))
    monkeypatch.setattr("gtpick_model.simulator.detector.smear_borders", lambda _, image, __: (image, image > np.inf))
    crowded = replace(lone, coverage=(0.2, 0.2), junk=1)
    longest = 0
    for i, path in enumerate(write_micrographs(balls, tmp_path, 6, SHAPE, crowded, seed=5)):
        fields = simulate(balls, 1, SHAPE, crowded, (5, 2, i))
        negatives = read_coordinates(path.with_name(f"sim_{i:04d}_negatives.star")).xy_px
        np.testing.assert_allclose(negatives[-2:], [[105, 15], [10, 32]], atol=0.0051)
        np.testing.assert_allclose(negatives[:-2], fields.negatives[0][:, :2].numpy(), atol=0.0051)
        longest = max(longest, len(negatives))
        assert len(read_coordinates(path.with_suffix(".star"))) == len(fields.boxes[0])
    assert longest > 2


def test_the_parts_of_a_region_have_a_deepest_point_and_the_diameter_of_a_disc_of_their_area() -> None:
    y, x = np.indices(SHAPE)
    region = (np.hypot(x - 90, y - 30) <= 12) | (np.hypot(x - 20, y - 60) <= 5)
    np.testing.assert_allclose(_objects(region), [[90, 30, 24], [20, 60, 10]], atol=0.4)
    assert _objects(np.zeros(SHAPE, bool)).shape == (0, 3)


def test_labels_point_at_particles_in_the_file(balls: ViewLibrary, lone: Conditions, tmp_path: Path) -> None:
    checked = 0
    for path in write_micrographs(balls, tmp_path, 12, SHAPE, lone, seed=5):
        ((x, y),) = read_coordinates(path.with_suffix(".star")).xy_px
        if 20 < x < SHAPE[1] - 20 and 20 < y < SHAPE[0] - 20:
            difference = np.abs(read_micrograph(path).data)
            seen = center_of_mass(np.where(difference > 0.3 * difference.max(), difference, 0))
            assert seen[::-1] == pytest.approx((x, y), abs=0.5)
            checked += 1
    assert checked >= 3


def test_the_same_seed_gives_the_same_files(balls: ViewLibrary, tmp_path: Path) -> None:
    first, again, other = (
        write_micrographs(balls, tmp_path / name, 1, SHAPE, Conditions(), seed)[0]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert np.array_equal(read_micrograph(first).data, read_micrograph(again).data)
    for labels in ("sim_0000.star", "sim_0000_negatives.star"):
        assert first.with_name(labels).read_bytes() == again.with_name(labels).read_bytes()
    assert not np.array_equal(read_micrograph(first).data, read_micrograph(other).data)


def test_a_micrograph_without_particles_has_an_empty_list(balls: ViewLibrary, lone: Conditions, tmp_path: Path) -> None:
    bare = replace(lone, empty=1, snr=(0.1, 0.1))
    (path,) = write_micrographs(balls, tmp_path, 1, SHAPE, bare, seed=0)
    assert len(read_coordinates(path.with_suffix(".star"))) == 0
    assert len(read_coordinates(path.with_name("sim_0000_negatives.star"))) == 0
