"""The network's output becomes detections on the image, scores and boxes in step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gtpick_rt.detection import decode as decoding
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.detection.merge import merge
from gtpick_rt.detection.tile import Tile, tile_grid
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks

TILE = Tile(y0=100, x0=300, core_y=(131.5, 323.5), core_x=(331.5, 523.5))


def f32(*values: object) -> FloatArray:
    return np.array(values, np.float32)


def decode(scores: FloatArray, boxes: FloatArray, tile: Tile, spec: ModelSpec) -> Picks:
    """What one tile answers for."""
    return decoding.decode(scores[None], boxes[None], [tile], spec)


def test_boxes_are_moved_to_the_image_and_stay_with_their_scores(spec: ModelSpec) -> None:
    boxes = f32([50, 60, 20], [70, 80, 21], [90, 100, 22], [110, 120, 23])
    picks = decode(f32(0.3, 0.01, 0.9, 0.5), boxes, TILE, spec)
    np.testing.assert_array_equal(picks.xy_px, [[350, 160], [390, 200], [410, 220]])
    np.testing.assert_array_equal(picks.diameter_px, [20, 22, 23])
    np.testing.assert_allclose(picks.score, [0.3, 0.9, 0.5], rtol=1e-6)


def test_what_is_not_finite_or_has_no_extent_is_dropped(spec: ModelSpec) -> None:
    good = [50, 60, 20]
    boxes = f32(
        good, [np.nan, 60, 20], [50, np.inf, 20], [50, 60, -np.inf], [50, 60, np.inf], [50, 60, 0], [50, 60, -3], good
    )
    scores = f32(np.nan, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8)
    np.testing.assert_allclose(decode(scores, boxes, TILE, spec).score, [0.8], rtol=1e-6)


def test_the_floor_applies_to_the_calibrated_score(spec: ModelSpec) -> None:
    boxes = f32([50, 60, 20], [70, 80, 20])
    lowered = replace(spec, calibration=(1.0, -3.0))
    assert len(decode(f32(0.5, 0.9), boxes, TILE, spec)) == 2
    assert len(decode(f32(0.5, 0.9), boxes, TILE, lowered)) == 1


def test_calibration_is_affine_in_the_logit_and_safe_at_the_ends(spec: ModelSpec) -> None:
    expected = [0, 1 / (1 + np.exp(-(2 * np.log(3) - 1))), 1]
    calibrated = calibrate(f32(0, 0.75, 1), replace(spec, calibration=(2.0, -1.0)))
    np.testing.assert_allclose(calibrated, expected, rtol=1e-6)


def test_a_score_a_rounding_above_one_counts_as_one(spec: ModelSpec) -> None:
    assert decode(f32(1.0000002), f32([50, 60, 20]), TILE, spec).score == 1


@pytest.mark.parametrize(("x", "kept"), [(26.4, False), (26.6, True), (128, True), (228.4, True), (228.6, False)])
def test_the_core_is_widened_by_half_the_merge_distance(x: float, kept: bool, spec: ModelSpec) -> None:
    """The core ends at 31.5 and 223.5 of the tile; half of half of 20 px is 5 px."""
    assert len(decode(f32(0.9), f32([x, 128, 20]), TILE, spec)) == kept
    assert len(decode(f32(0.9), f32([128, x, 20]), TILE, spec)) == kept


near = st.floats(-11, 11, width=32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.floats(190, 310, width=32), dx=near)
def test_a_particle_on_a_seam_is_found_once_though_tiles_disagree_on_its_place(
    x: float, dx: float, spec: ModelSpec
) -> None:
    left, right = tile_grid((256, 448), spec)
    views = [(left, x), (right, x + dx)]
    seen = [decode(f32(0.9), f32([at - tile.x0, 128, 24]), tile, spec) for tile, at in views]
    together = Picks(*(np.concatenate([getattr(p, n) for p in seen]) for n in ("xy_px", "diameter_px", "score")))
    assert len(merge(together, spec.merge_distance)) == 1


def test_several_tiles_are_decoded_as_each_alone_and_none_as_nothing(spec: ModelSpec) -> None:
    rng, tiles = np.random.default_rng(3), tile_grid((500, 700), spec)
    scores = rng.random((len(tiles), 40), np.float32)
    boxes = rng.uniform(-10, 266, (len(tiles), 40, 3)).astype(np.float32)
    together = decoding.decode(scores, boxes, tiles, spec)
    alone = [decode(s, b, tile, spec) for s, b, tile in zip(scores, boxes, tiles, strict=True)]
    for name in ("xy_px", "diameter_px", "score"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(each, name) for each in alone]))
    assert len(together) > 20
    assert len(decoding.decode(scores[:0], boxes[:0], [], spec)) == 0
