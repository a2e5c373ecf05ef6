"""Hot and dead pixels cost only themselves."""

from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.reading.defects import mended

NOISE = np.random.default_rng(0).normal(1000, 50, (140, 170)).astype(np.float32)
SPOT = (slice(60, 63), slice(80, 83))


def image(value: float, where: object = SPOT, dtype: type = np.float32) -> np.ndarray:
    pixels = NOISE.astype(dtype)
    pixels[where] = value  # type: ignore[index]
    return pixels


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [5e4, -5e4, 3000, 0])
@pytest.mark.parametrize("where", [(60, 80), SPOT, (slice(None), 17), (slice(None), slice(40, 43)), (0, 0), (-1, -1)])
def test_what_stands_out_alone_is_replaced_by_what_is_around(dtype: type, value: float, where: object) -> None:
    data, _ = mended(Path("a.mrc"), image(value, where, dtype), keep_float16=True)
    assert data.dtype == dtype
    assert np.abs(data.astype(float) - 1000).max() < 12 * 50
    untouched = np.ones(NOISE.shape, bool)
    untouched[where] = False  # type: ignore[index]
    np.testing.assert_array_equal(data[untouched], NOISE.astype(dtype)[untouched])


@pytest.mark.parametrize("value", [1e20, 3e38, -3e38])
def test_huge_values_are_replaced(value: float) -> None:
    data, _ = mended(Path("a.mrc"), image(value), keep_float16=False)
    assert np.abs(data - 1000).max() < 12 * 50


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_image_without_defects_is_not_changed(dtype: type, sign: int) -> None:
    for offset in (-3000, 0, 1000):
        pixels = (sign * NOISE + offset).astype(dtype)
        data, said = mended(Path("a.mrc"), pixels, keep_float16=True)
        np.testing.assert_array_equal(data, pixels)
        assert said == ()


def test_a_large_dark_area_and_a_broad_peak_stay() -> None:
    area = image(0, (slice(20, 60), slice(30, 120)))
    np.testing.assert_array_equal(mended(Path("a.mrc"), area.copy(), keep_float16=False)[0], area)
    y, x = np.indices(NOISE.shape)
    peak = (NOISE + 5000 * np.exp(-((y - 70) ** 2 + (x - 80) ** 2) / (2 * 8**2))).astype(np.float32)
    np.testing.assert_array_equal(mended(Path("a.mrc"), peak.copy(), keep_float16=False)[0], peak)


def test_only_many_are_told_of() -> None:
    assert mended(Path("a.mrc"), image(9e4, (60, 80)), keep_float16=False)[1] == ()
    (said,) = mended(Path("a.mrc"), image(9e4, (slice(None), 17)), keep_float16=False)[1]
    assert said == "140 pixels unlike all around replaced (hot or dead)"


def test_sparse_counts_are_no_defects() -> None:
    counts = np.random.default_rng(0).poisson(0.3, (300, 400)).astype(np.float32)
    data, _ = mended(Path("a.mrc"), counts.copy(), keep_float16=False)
    np.testing.assert_array_equal(data, counts)
