"""The micrograph arrives at the model's scale, flat, normalised, and with a way back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.detection.preprocess import WorkingImage, to_working_scale
from gtpick_rt.errors import PixelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks


def noise(shape: tuple[int, int], pixel_size_A: float = 1.0) -> Micrograph:
    data = np.random.default_rng(1).normal(500, 20, shape).astype(np.float32)
    return Micrograph(data, pixel_size_A, Path("noise.mrc"))


def test_the_nominal_diameter_becomes_the_models(spec: ModelSpec) -> None:
    image = to_working_scale(noise((300, 500), pixel_size_A=2.0), 96, spec)
    assert image.data.shape == (150, 250)
    assert image.shape == (300, 500)
    assert image.data.dtype == np.float32


def test_the_result_is_normalised_and_clipped(spec: ModelSpec) -> None:
    micrograph = noise((400, 600))
    micrograph.data[100:110, 200:210] += 60 * micrograph.data.std()
    data = to_working_scale(micrograph, 48, spec).data
    assert np.median(data) == pytest.approx(0, abs=0.02)
    assert 1.4826 * np.median(np.abs(data - np.median(data))) == pytest.approx(1, abs=0.02)
    assert data.max() == spec.clip
    assert data.min() >= -spec.clip


def test_what_is_finer_than_the_working_pixels_is_not_folded_into_them(spec: ModelSpec) -> None:
    plain = noise((600, 800))
    checkers = 100 * (np.indices((600, 800)).sum(axis=0) % 2).astype(np.float32)
    found = to_working_scale(Micrograph(plain.data + checkers, 1.0, plain.path), 72, spec).data
    np.testing.assert_allclose(found, to_working_scale(plain, 72, spec).data, atol=0.3)


def test_a_slow_background_is_removed(spec: ModelSpec) -> None:
    flat = noise((600, 800))
    y, x = np.mgrid[:600, :800]
    tilted = Micrograph(flat.data + (0.02 * x + 0.04 * y).astype(np.float32), 1.0, flat.path)
    inner = (slice(100, -100), slice(100, -100))
    difference = to_working_scale(tilted, 48, spec).data[inner] - to_working_scale(flat, 48, spec).data[inner]
    assert np.abs(difference).max() < 0.1


@pytest.mark.parametrize(
    "turn",
    [np.flipud, np.fliplr, np.rot90, np.transpose],
    ids=["up-down", "left-right", "rotation", "transpose"],
)
def test_flips_and_rotations_commute_with_it(turn: Callable[[FloatArray], FloatArray], spec: ModelSpec) -> None:
    micrograph = noise((333, 501))
    turned = Micrograph(np.ascontiguousarray(turn(micrograph.data)), 1.0, micrograph.path)
    expected = turn(to_working_scale(micrograph, 61, spec).data)
    np.testing.assert_allclose(to_working_scale(turned, 61, spec).data, expected, atol=2e-3)


def test_grey_levels_and_their_offset_do_not_matter(spec: ModelSpec) -> None:
    micrograph = noise((300, 400))
    scaled = Micrograph(micrograph.data * 3 - 1000, 1.0, micrograph.path)
    expected = to_working_scale(micrograph, 48, spec).data
    np.testing.assert_allclose(to_working_scale(scaled, 48, spec).data, expected, atol=1e-3)


@pytest.mark.parametrize("value", [0, 1, 1000.1, -3e7])
def test_a_constant_image_is_blank(value: float, spec: ModelSpec) -> None:
    micrograph = Micrograph(np.full((400, 331), value, np.float32), 1.0, Path("flat.mrc"))
    image = to_working_scale(micrograph, 60, spec)
    assert image.blank
    assert not image.data.any()


def test_noise_on_a_large_offset_is_not_blank(spec: ModelSpec) -> None:
    micrograph = noise((400, 400))
    assert not to_working_scale(Micrograph(micrograph.data + 50_000, 1.0, micrograph.path), 48, spec).blank


@pytest.mark.parametrize(
    ("diameter_A", "reason"), [(11.9, "needs at least 12 px"), (301, r"larger than the image of 400 x 300 px")]
)
def test_a_diameter_out_of_reach_is_refused(diameter_A: float, reason: str, spec: ModelSpec) -> None:
    with pytest.raises(PixelError, match=rf"noise\.mrc.*{diameter_A:g} Å.*{reason}.*--diameter"):
        to_working_scale(noise((300, 400)), diameter_A, spec)


@pytest.mark.parametrize("diameter_A", [12, 300])
def test_a_diameter_just_in_reach_is_taken(diameter_A: float, spec: ModelSpec) -> None:
    assert min(to_working_scale(noise((300, 400)), diameter_A, spec).data.shape) >= spec.diameter_px


sizes = st.integers(1, 5000)


@given(sizes, sizes, sizes, sizes)
def test_corners_of_the_working_image_are_corners_of_the_micrograph(h: int, w: int, height: int, width: int) -> None:
    image = WorkingImage(np.broadcast_to(np.float32(0), (h, w)), (height, width), np.zeros((1, 1), np.float32))
    corners: FloatArray = np.array([[-0.5, -0.5], [w - 0.5, h - 0.5]], np.float32)
    expected = [[-0.5, -0.5], [width - 0.5, height - 0.5]]
    np.testing.assert_allclose(image.to_micrograph_px(corners), expected, rtol=1e-5, atol=1e-5)


def test_a_point_maps_back_to_where_it_was_drawn(spec: ModelSpec) -> None:
    y, x = np.mgrid[:311, :517]
    micrograph = noise((311, 517))
    spot = 2000 * np.exp(-((x - 400.0) ** 2 + (y - 100.0) ** 2) / (2 * 8**2))
    image = to_working_scale(Micrograph(micrograph.data + spot.astype(np.float32), 1.0, micrograph.path), 52, spec)
    weight = np.where(image.data == spec.clip, 1.0, 0.0)
    yw, xw = np.mgrid[: image.data.shape[0], : image.data.shape[1]]
    centre = np.array([[(weight * xw).sum(), (weight * yw).sum()]], np.float32) / np.float32(weight.sum())
    np.testing.assert_allclose(image.to_micrograph_px(centre), [[400, 100]], atol=0.5)


def test_diameters_are_mapped_with_the_scale() -> None:
    image = WorkingImage(np.zeros((100, 50), np.float32), (400, 200), np.zeros((1, 1), np.float32))
    picks = Picks(np.array([[0, 10]], np.float32), np.array([24], np.float32), np.array([0.5], np.float32))
    mapped = image.to_micrograph(picks)
    assert mapped.diameter_px == pytest.approx(96)
    np.testing.assert_allclose(mapped.xy_px, [[1.5, 41.5]])
    back = image.to_working(mapped)
    np.testing.assert_allclose(back.xy_px, picks.xy_px, atol=1e-6)
    np.testing.assert_allclose(back.diameter_px, picks.diameter_px)


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_pixels_too_large_to_reckon_with_are_an_error(value: float, spec: ModelSpec) -> None:
    micrograph = noise((300, 400))
    micrograph.data[::2] = value
    micrograph.data[1::2] = -value
    with pytest.raises(PixelError, match=r"noise\.mrc: its pixels are too large"):
        to_working_scale(micrograph, 24, spec)
