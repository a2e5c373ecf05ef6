"""Fourier shell correlation of maps."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gtpick_model.simulator.structures import Volume

Curve = NDArray[np.float64]


def soft_mask(volume: Volume, voxel_A: float) -> Volume:
    """1 on and near the density of a map, falling to 0 within four voxels."""
    smooth = ndimage.gaussian_filter(volume, 6 / voxel_A)
    inside = ndimage.binary_dilation(smooth > 0.05 * smooth.max(), iterations=2)
    away = ndimage.distance_transform_edt(~inside)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(away / 4, 0, 1)), np.float32)


def shell_correlation(one: Volume, other: Volume) -> Curve:
    """Of two cubes of side n, at the frequencies k / n of k from 0 to n // 2, `(n // 2 + 1,)`."""
    n = len(one)
    axis = np.fft.fftfreq(n, 1 / n)
    shell = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    shell = np.rint(shell).astype(int).ravel()
    a, b = np.fft.fftn(one).ravel(), np.fft.fftn(other).ravel()

    def total(values: NDArray[np.float64]) -> Curve:
        return np.bincount(shell, values)[: n // 2 + 1]

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    return total((a * b.conj()).real) / np.maximum(power, 1e-30)


def resolution_A(correlation: Curve, threshold: float, box_A: float) -> float:
    """Where a curve first falls below a threshold, by a line between shells; about twice the voxel
    where it never does.
    """
    below = np.flatnonzero(correlation[1:] < threshold)
    if not len(below):
        return box_A / (len(correlation) - 1)
    k = int(below[0]) + 1
    before, after = correlation[k - 1], correlation[k]
    return float(box_A / (k - 1 + (before - threshold) / (before - after))) if k > 1 else box_A
