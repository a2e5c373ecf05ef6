"""Each flag is set by what it stands for, and by nothing else."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gtpick_rt.detection import contamination
from gtpick_rt.detection.contamination import find_contamination
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.detection.quality import FLAGS, quality_flags
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks

SHAPE = (480, 720)
"""20 x 30 particles of 24 px, which is the model's own scale."""


def noise() -> FloatArray:
    return np.random.default_rng(1).normal(100, 5, SHAPE).astype(np.float32)


def disc(x: float, y: float, radius: float) -> FloatArray:
    rows, columns = np.indices(SHAPE)
    return (np.hypot(columns - x, rows - y) < radius).astype(np.float32)


def detections(count: int, score: float, below: int = 0) -> Picks:
    """So many of a score, so many of 0.25, somewhat below the threshold of 0.4, and 999 far below
    it.
    """
    scores = np.repeat(np.array([score, 0.25, 0.2], np.float32), [count, below, 999])
    xy = np.random.default_rng(0).uniform(20, 400, (len(scores), 2))
    return Picks(xy.astype(np.float32), np.full(len(scores), 24, np.float32), scores)


SOME = detections(100, 0.9)


def flags(spec: ModelSpec, image: FloatArray, found: Picks = SOME) -> list[str]:
    working = to_working_scale(Micrograph(image, 1.0, Path("a.mrc")), 24, spec)
    return quality_flags(working, found, spec, find_contamination(working, spec))


@pytest.mark.parametrize(
    ("count", "score", "below", "expected"),
    [
        (0, 0.9, 0, ["empty"]),
        (6, 0.9, 0, ["empty"]),
        (7, 0.9, 0, []),
        (0, 0.9, 400, ["empty"]),
        (299, 0.9, 0, []),
        (300, 0.9, 0, ["crowded"]),
        (100, 0.7, 93, []),  # 70 particles among the picks, and 23.3 somewhat below the threshold
        (100, 0.7, 94, ["low contrast"]),
        (300, 0.5, 400, ["crowded", "low contrast"]),
    ],
)
def test_detections_tell_of_empty_crowded_and_faint_micrographs(
    count: int, score: float, below: int, expected: list[str], spec: ModelSpec
) -> None:
    """The area holds 600 squares of the particle's diameter."""
    assert flags(spec, noise(), detections(count, score, below)) == expected


@pytest.mark.parametrize("turn", range(4))
def test_film_of_other_texture_is_a_carbon_edge_however_the_image_lies(turn: int, spec: ModelSpec) -> None:
    film = disc(900, 200, 450)
    image = 100 + (noise() - 100) * (1 + film)
    assert flags(spec, np.ascontiguousarray(np.rot90(image, turn))) == ["carbon edge"]


def test_film_of_other_darkness_is_a_carbon_edge(spec: ModelSpec) -> None:
    assert flags(spec, noise() - 10 * disc(0, 500, 400)) == ["carbon edge"]


def test_uneven_illumination_is_not(spec: ModelSpec) -> None:
    waves = gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 80)
    ramp = np.linspace(0, 60, SHAPE[1], dtype=np.float32)
    assert flags(spec, (noise() + ramp + 10 * waves / waves.std()).astype(np.float32)) == []


@pytest.mark.parametrize(("radius", "expected"), [(110, ["ice"]), (60, ["ice"]), (12, [])])
def test_what_is_dark_and_larger_than_a_particle_is_ice(radius: float, expected: list[str], spec: ModelSpec) -> None:
    assert flags(spec, noise() - 20 * disc(300, 200, radius)) == expected


def test_a_rough_patch_is_ice(spec: ModelSpec) -> None:
    lattice = np.sin(np.arange(SHAPE[1], dtype=np.float32) * 2)
    patch = gaussian_filter(disc(300, 200, 70), 20)
    assert flags(spec, noise() + 12 * patch * lattice) == ["ice"]


def test_a_thread_has_no_sides() -> None:
    """A side is compared with the other at a distance from their border, where a thread has
    nothing.
    """
    comb = np.zeros((30, 40), np.float32)
    comb[::6] = comb[:, 0] = 1
    assert contamination._side(comb) is None


def test_ice_is_seen_beside_a_carbon_edge(spec: ModelSpec) -> None:
    image = 100 + (noise() - 100) * (1 + disc(1000, 200, 450))
    assert flags(spec, image - 20 * disc(200, 200, 60)) == ["carbon edge", "ice"]


def test_many_particles_are_not_ice(spec: ModelSpec) -> None:
    image = noise()
    for x, y in np.random.default_rng(3).uniform((0, 0), SHAPE[::-1], (150, 2)):
        image -= 15 * disc(x, y, 12)
    assert flags(spec, image) == []


def test_streaks_along_the_borders_are_not_looked_at(spec: ModelSpec) -> None:
    image = noise()
    streaks = gaussian_filter(np.random.default_rng(4).normal(size=SHAPE[1]), 4).astype(np.float32)
    image[:40] = 100 + 10 * streaks / streaks.std()
    assert flags(spec, image) == []


def test_grey_values_do_not_matter(spec: ModelSpec) -> None:
    image = noise() - 20 * disc(300, 200, 60)
    assert flags(spec, image * 1000 - 7) == flags(spec, image) == ["ice"]


def test_a_blank_image_is_empty(spec: ModelSpec) -> None:
    assert flags(spec, np.full(SHAPE, 3, np.float32), Picks.empty()) == ["empty"]


@pytest.mark.parametrize("shape", [(24, 24), (30, 700), (150, 150), (180, 200)])
def test_an_image_of_a_few_particles_can_be_judged(shape: tuple[int, int], spec: ModelSpec) -> None:
    assert flags(spec, noise()[: shape[0], : shape[1]].copy(), detections(1, 0.9)) in ([], ["crowded"])


def test_flags_come_in_one_order(spec: ModelSpec) -> None:
    image = 100 + (noise() - 100) * (1 + disc(1000, 200, 450)) - 20 * disc(200, 200, 60)
    found = flags(spec, image, detections(400, 0.5, 800))
    assert found == ["crowded", "carbon edge", "ice", "low contrast"] == [flag for flag in FLAGS if flag in found]
