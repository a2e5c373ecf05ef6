"""Resampling, judged by Pillow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gtpick_rt.detection.resample import resample

sides = st.integers(1, 60)


@settings(deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 99))
def test_it_gives_what_pillow_gives(height: int, width: int, h: int, w: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    result = resample(image, (h, w))
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(77, 613), (613, 77)])
def test_a_large_image_is_made_in_parts_that_fit_together(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(8 * shape[0], 8 * shape[1])).astype(np.float16)
    pillow = Image.fromarray(image.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(resample(image, shape), np.asarray(pillow), atol=2e-5)


@settings(deadline=None)
@given(sides, sides, sides, sides)
def test_it_commutes_with_flips_and_transposition(height: int, width: int, h: int, w: int) -> None:
    image = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    result = resample(image, (h, w))
    np.testing.assert_allclose(resample(image[::-1], (h, w)), result[::-1], atol=1e-5)
    np.testing.assert_allclose(resample(image[:, ::-1], (h, w)), result[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(resample(np.ascontiguousarray(image.T), (w, h)), result.T, atol=1e-5)


@pytest.mark.parametrize("shape", [(13, 7), (40, 90)])
def test_a_constant_stays_constant(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(resample(np.full((31, 45), 7, np.float32), shape), 7, rtol=1e-6)


def test_float16_gives_what_its_float32_gives() -> None:
    image = np.random.default_rng(0).normal(size=(700, 90)).astype(np.float16)
    np.testing.assert_array_equal(resample(image, (300, 41)), resample(image.astype(np.float32), (300, 41)))


def test_every_float16_is_known() -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    image = np.where(np.isfinite(numbers), numbers, 0).reshape(256, 256).astype(np.float16)
    np.testing.assert_array_equal(resample(image, (256, 256)), image.astype(np.float32))
