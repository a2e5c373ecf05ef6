"""Micrographs to measure speed on, where there are no others."""

from pathlib import Path

import numpy as np

from gtpick_rt.types import FloatArray

_APART = 2.5
"""Distance of the particles in diameters, as in a usual micrograph."""


PIXEL_SIZE_A = 1.5


def write_synthetic(folder: Path, count: int, width: int, height: int, diameter_A: float) -> None:
    """Write so many float16 MRC files at `PIXEL_SIZE_A`: noise with dark discs, different places in
    each.
    """
    diameter_px = diameter_A / PIXEL_SIZE_A
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((height, width), np.float32)
    for number in range(count):
        image = np.roll(noise, rng.integers(0, height), axis=0)
        for x, y in _places(rng, width, height, diameter_px):
            _draw_disc(image, x, y, diameter_px / 2)
        (folder / f"synthetic_{number:04}.mrc").write_bytes(_mrc(image))


def _places(rng: np.random.Generator, width: int, height: int, diameter_px: float) -> FloatArray:
    """A jittered lattice of places, x and y."""
    step = _APART * diameter_px
    lattice = np.mgrid[step : width - step : step, step : height - step : step].reshape(2, -1).T
    return np.asarray(lattice + rng.uniform(-0.5, 0.5, lattice.shape) * diameter_px, np.float32)


def _draw_disc(image: FloatArray, x: float, y: float, radius: float) -> None:
    reach = int(radius) + 1
    left, top = int(x) - reach, int(y) - reach
    part = image[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
    part[(columns + left - x) ** 2 + (rows + top - y) ** 2 < radius**2] -= 1


def _mrc(image: FloatArray) -> bytes:
    """An MRC file of mode 12."""
    height, width = image.shape
    words = np.zeros(256, "<i4")
    words[[0, 1, 2, 3, 7, 8, 9]] = width, height, 1, 12, width, height, 1
    words[10:13] = np.array([width * PIXEL_SIZE_A, height * PIXEL_SIZE_A, 1], "<f4").view("<i4")
    words[[16, 17, 18]] = 1, 2, 3
    words[52:54] = np.frombuffer(b"MAP DD\0\0", "<i4")
    return words.tobytes() + image.astype("<f2").tobytes()
