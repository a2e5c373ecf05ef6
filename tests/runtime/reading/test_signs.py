"""Whether integers have a sign: by IMOD's flag, else by the histogram."""

from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.reading.micrographs import probe, read_micrograph
from gtpick_rt.reading.signs import with_sign

SHAPE = (90, 110)
STAMP = 1146047817


def noise(mean: float, sigma: float = 25.0) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, sigma, SHAPE)


def save(path: Path, pixels: np.ndarray, mode: int, imod: int | None = None) -> Path:
    head = bytearray(1024)
    head[:16] = np.array([SHAPE[1], SHAPE[0], 1, mode], "<i4").tobytes()
    head[28:40] = np.array([SHAPE[1], SHAPE[0], 1], "<i4").tobytes()
    head[40:52] = np.array([SHAPE[1] * 2, SHAPE[0] * 2, 2], "<f4").tobytes()
    if imod is not None:
        head[152:160] = np.array([STAMP, imod], "<i4").tobytes()
    head[208:216] = b"MAP \x44\x44\0\0"
    path.write_bytes(bytes(head) + pixels.tobytes())
    return path


@pytest.mark.parametrize("mean", [40, 90, 128, 150, 170, 215])
@pytest.mark.parametrize("imod", [None, 0])
def test_unsigned_bytes_are_read_as_such(tmp_path: Path, mean: float, imod: int | None) -> None:
    values = np.clip(noise(mean), 0, 255).astype(np.uint8)
    micrograph = read_micrograph(save(tmp_path / "a.mrc", values, 0, imod))
    offset = {0.0} if imod == 0 or np.quantile(values, 0.98) > 127 > np.quantile(values, 0.02) else {0.0, -256.0}
    usual = np.median(micrograph.data - values)
    assert usual in offset
    assert np.mean(micrograph.data - values == usual) > 0.96
    if imod == 0:
        assert micrograph.warnings == ("read as unsigned 8-bit integers, by the flag of IMOD",)


@pytest.mark.parametrize("mean", [-70, -20, 0, 20, 90])
@pytest.mark.parametrize("imod", [None, 1, 3])
def test_signed_bytes_are_read_as_such_and_without_a_word(tmp_path: Path, mean: float, imod: int | None) -> None:
    values = np.clip(noise(mean, 12), -128, 127).astype(np.int8)
    micrograph = read_micrograph(save(tmp_path / "a.mrc", values, 0, imod))
    np.testing.assert_array_equal(micrograph.data, values)
    assert micrograph.warnings == ()


def test_the_header_alone_tells_what_imod_says(tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.uint8)
    assert probe(save(tmp_path / "a.mrc", values, 0, 0)).mode == "uint8"
    assert probe(save(tmp_path / "b.mrc", values, 0, 1)).mode == "int8"


@pytest.mark.parametrize(
    ("declared", "meant", "mode", "mean"), [("u2", "i2", 6, 0), ("i2", "u2", 1, 32768), ("i1", "u1", 0, 128)]
)
def test_a_declared_sign_that_the_histogram_contradicts_is_not_believed(
    tmp_path: Path, declared: str, meant: str, mode: int, mean: float
) -> None:
    values = noise(mean).astype(meant)
    micrograph = read_micrograph(save(tmp_path / "a.mrc", values, mode, 1 if mode == 0 else None))
    np.testing.assert_array_equal(micrograph.data, values)
    (warning,) = micrograph.warnings
    assert "by the histogram, against " in warning
    assert ("unsigned" in warning) == (meant[0] == "u")


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_hot_pixels_and_large_values_say_nothing_of_the_sign(dtype: str) -> None:
    values = noise(3000, 400).astype(dtype)
    values.ravel()[:40] = np.iinfo(dtype).max
    pixels, said = with_sign(values, "a test")
    assert pixels.dtype == values.dtype
    assert said == ""
