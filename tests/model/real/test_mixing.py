"""Crops and backgrounds of real micrographs, and what a teacher's detections say of places that
nobody labelled.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import AT_MOST, share_with_label
from gtpick_model.network import GTPick
from gtpick_model.real import mixing
from gtpick_model.real.looks import draw_look, plain
from gtpick_model.real.mixing import LARGEST_TILE_PX, VALIDATION, RealTiles
from gtpick_model.real.specimens import RealMicrograph, read_folders
from gtpick_model.real.teacher import detect_whole, unlabelled
from gtpick_model.real.validation import score_micrographs
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.types import FloatArray, Picks

MakeFolder = Callable[..., Path]


@pytest.fixture
def network(config: ModelConfig) -> GTPick:
    return GTPick(config).eval()


@pytest.fixture
def micrographs(make_folder: MakeFolder, config: ModelConfig) -> list[RealMicrograph]:
    return read_folders([make_folder(), make_folder("empty", labels=False, particles="none")], config)


def seen(*xys: tuple[float, float, float]) -> Picks:
    """Detections: x, y, score."""
    values = np.array(xys, np.float32).reshape(-1, 3)
    return Picks(values[:, :2], np.full(len(values), 20, np.float32), values[:, 2])


def test_boxes_of_a_look_lie_on_the_particles(micrographs: list[RealMicrograph], config: ModelConfig) -> None:
    sizes = set()
    for seed in range(8):
        look = draw_look(micrographs[0], 0.8, Picks.empty(), config, np.random.default_rng(seed))
        assert look.data.shape == look.background.shape
        for x, y, diameter in look.boxes:
            row, column = round(float(y)), round(float(x))
            assert look.data[row - 2 : row + 3, column - 2 : column + 3].mean() < -0.5
            sizes.add(round(float(diameter), 3))
    assert len(sizes) == 8
    assert 24 * 0.7 <= min(sizes) < max(sizes) <= 24 * 1.4


def test_the_last_rows_are_never_trained_on(micrographs: list[RealMicrograph], config: ModelConfig) -> None:
    for seed in range(8):
        look = draw_look(micrographs[0], 1 - VALIDATION, Picks.empty(), config, np.random.default_rng(seed))
        width = look.data.shape[1]
        assert len(look.data) == pytest.approx(0.8 * 400 / 240 * width, abs=1)
        assert len(look.boxes) == 4


def test_crops_have_the_size_asked_for_and_are_the_same_again(
    micrographs: list[RealMicrograph], config: ModelConfig
) -> None:
    first, again = (RealTiles(micrographs, config, (0,)) for _ in range(2))
    for step, tile_px in ((0, 64), (1, 128), (2, LARGEST_TILE_PX)):
        one, other = first.draw(3, tile_px, step), again.draw(3, tile_px, step)
        assert one.images.shape == (3, 1, tile_px, tile_px)
        assert torch.equal(one.images, other.images)
        assert one.background is not None
        assert one.background.shape == (3, tile_px, tile_px)


def test_at_each_step_one_look_is_drawn_anew(micrographs: list[RealMicrograph], config: ModelConfig) -> None:
    tiles = RealTiles(micrographs, config, (0,))
    tiles.draw(1, 64, 0)
    looks = list(tiles.looks)
    changed = []
    for step in range(1, 30):
        tiles.draw(1, 64, step)
        changed.append([i for i, look in enumerate(tiles.looks) if look is not looks[i]])
        looks = list(tiles.looks)
    assert {len(each) for each in changed} == {1}
    assert {each[0] for each in changed} == {0, 1, 2, 3}


def test_looks_depend_on_the_step_and_the_network_alone(
    micrographs: list[RealMicrograph], network: GTPick, config: ModelConfig
) -> None:
    whole, resumed = (RealTiles(micrographs, config, (0,)) for _ in range(2))
    for step in range(7):
        whole.draw(1, 64, step)
    for tiles in (whole, resumed):
        tiles.follow(network, (1.0, 0.0))
    for step in range(7, 12):
        one, other = whole.draw(2, 64, step), resumed.draw(2, 64, step)
        assert torch.equal(one.images, other.images)


def test_the_network_that_is_followed_sees_all_but_the_rows_of_validation(
    micrographs: list[RealMicrograph], network: GTPick, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look(network: GTPick, image: FloatArray, calibration: tuple[float, float]) -> Picks:
        asked.append(image.shape)
        return seen((60, 20, 0.5))

    monkeypatch.setattr(mixing, "detect_whole", look)
    tiles = RealTiles(micrographs, config, (0,))
    tiles.draw(1, 64, 0)
    assert [len(each) for each in tiles.doubts] == [0, 0, 0, 0]
    tiles.follow(network, (1.0, 0.0))
    assert asked == [(160, 120), (160, 120)]  # of the labelled ones
    assert [len(each) for each in tiles.doubts] == [1, 1, 0, 0]
    before = tiles.draw(1, 64, 1)
    assert before.background is not None


def test_what_may_be_a_particle_lies_at_its_place_at_every_scale(
    micrographs: list[RealMicrograph], config: ModelConfig
) -> None:
    _, centres = plain(micrographs[0], config)
    for seed in range(8):
        unlabelled = replace(micrographs[0], centres=micrographs[0].centres[:0])
        doubts = Picks(centres, np.full(len(centres), 24, np.float32), np.zeros(len(centres), np.float32))
        look = draw_look(unlabelled, 1.0, doubts, config, np.random.default_rng(seed))
        known = look.background > 0
        assert known.any()
        assert look.data[known].mean() > 0.5 + look.data[12:-12, 12:-12][~known[12:-12, 12:-12]].mean()


def test_labelled_folders_and_others_have_their_shares(micrographs: list[RealMicrograph], config: ModelConfig) -> None:
    other = replace(micrographs[0], folder="other")
    unknown = replace(micrographs[2], folder="unknown", particles="unlabelled")
    odds = RealTiles([*micrographs, other, unknown], config, (0,)).odds
    assert odds.sum() == pytest.approx(1)
    np.testing.assert_allclose(odds, [0.1875, 0.1875, 0.125, 0.125, 0.375, 0])


def test_on_backgrounds_most_surely_is_no_particle_and_those_there_are_do_not_count(
    micrographs: list[RealMicrograph], config: ModelConfig
) -> None:
    tiles = RealTiles(micrographs[:1], config, (0,))
    tiles.draw(1, 64, 0)
    assert len(tiles.backgrounds(4, 1024, 0).images) == 0
    found = tiles.backgrounds(16, 64, 0)
    assert found.images.shape == found.background.shape
    assert found.images.shape[1:] == (64, 64)
    assert len(found.images) > 0
    assert ((found.background >= mixing.SURELY_EMPTY).float().mean((1, 2)) >= mixing.MOSTLY).all()
    left_out = found.background == 0
    assert left_out.any()
    assert found.images[left_out].mean() < found.images[~left_out].mean() - 0.5  # discs are dark


def test_a_detection_without_a_label_is_background_as_far_as_it_is_surely_no_particle() -> None:
    found = seen((30, 30, 0.9), (60, 30, 0.9), (30, 60, 0.6), (61, 61, 0.2))
    labels = np.array([[31, 30], [60, 31]], np.float32)
    nobody = np.zeros((0, 2), np.float32)
    share = 1.8 / (0.9**2 + 0.9**2 + 0.6**2 + 0.2**2)
    (doubts,) = unlabelled([found], [labels], 20.0)
    np.testing.assert_array_equal(doubts.xy_px, [[30, 60], [61, 61]])
    np.testing.assert_allclose(doubts.score, [0.4 / (1 - 0.6 * share), 0.8 / (1 - 0.2 * share)], rtol=1e-6)
    (nothing_known,) = unlabelled([found], [nobody], 20.0)
    assert nothing_known.score[0] == pytest.approx(0.1)


def test_never_all_particles_are_taken_to_be_labelled() -> None:
    found, labels = seen((30, 30, 1.0), (60, 60, 0.9)), np.array([[30, 30]], np.float32)
    sure = Picks(found.xy_px[:1], found.diameter_px[:1], found.score[:1])
    assert share_with_label(curve([(sure, sure)], 8.0)) == AT_MOST
    (doubts,) = unlabelled([found], [labels], 20.0)
    assert 0 < doubts.score[0] < 1


def test_a_micrograph_on_which_nothing_was_marked_is_judged_as_the_others_of_its_folder() -> None:
    marked, bare = seen((30, 30, 0.9)), seen((30, 30, 0.9))
    labels = [np.array([[30, 30]], np.float32), np.zeros((0, 2), np.float32)]
    share = 0.9 / (2 * 0.9**2)
    _, doubts = unlabelled([marked, bare], labels, 20.0)
    np.testing.assert_allclose(doubts.score, [0.1 / (1 - 0.9 * share)], rtol=1e-6)


def test_where_no_particle_is_all_is_background(micrographs: list[RealMicrograph], config: ModelConfig) -> None:
    look = draw_look(micrographs[-1], 1.0, seen((40, 40, 0.1)), config, np.random.default_rng(0))
    assert micrographs[-1].particles == "none"
    assert len(look.boxes) == 0
    assert (look.background == 1).all()


@pytest.mark.parametrize("shape", [(50, 60), (64, 64), (150, 130)])
def test_a_whole_image_is_seen_in_its_own_pixels(network: GTPick, shape: tuple[int, int]) -> None:
    image: FloatArray = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    certain = (1.0, 12.0)  # whatever the untrained network says, it is kept
    found = detect_whole(network, image, certain)
    assert len(found) > 0
    assert (found.xy_px > -0.5).all()
    assert (found.xy_px < np.array(shape[::-1]) - 0.5).all()


def test_validation_counts_whole_particles_of_the_last_rows(micrographs: list[RealMicrograph], network: GTPick) -> None:
    scored = score_micrographs(network, micrographs)
    assert list(scored) == ["discs"]
    assert scored["discs"].labels == 0  # the last disc of each reaches over the border
    higher = [replace(each, centres=each.centres - np.array([0, 14], np.float32)) for each in micrographs]
    assert score_micrographs(network, higher)["discs"].labels == 2
