"""The projection of a structure that is most like a class average."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.optics import wavelength_A
from gtpick_model.simulator.structures import Structure
from gtpick_model.simulator.views import build_library, place

VIEWS, STEP_DEG = 400, 5
"""Directions all over the sphere, and the step of turns in the plane."""
SEED = 101
"""Of the directions: others than those of the particles."""
KILOVOLTS = (200, 300)
"""Of the simulator's microscopes."""
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """The projection that is most like a class average."""

    correlation: float
    image: Images
    """`(n, n)`, turned, shifted and mirrored as the average is."""


def prepare(images: torch.Tensor, diameter_px: float) -> torch.Tensor:
    """Images `(k, n, n)` with nothing outside the mask, and of mean 0 and norm 1 inside."""
    axis = torch.arange(images.shape[-1]) - images.shape[-1] // 2
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2 < (0.55 * diameter_px) ** 2).float()
    inside = (images - (images * disc).sum((1, 2), keepdim=True) / disc.sum()) * disc
    return inside / inside.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-12)


def first_peak(n: int, pixel_A: float) -> torch.Tensor:
    """Contrast transfer at the mean defocus, 1 from its first peak on.

    It is laid out for `rfft2` of `(n, n)` images.
    """
    low, high = Conditions().defocus_A
    k2 = (torch.fft.fftfreq(n)[:, None] ** 2 + torch.fft.rfftfreq(n)[None, :] ** 2) / pixel_A**2
    phase = np.pi * wavelength_A(torch.tensor(float(max(KILOVOLTS)))) * (low + high) / 2 * k2 + np.arcsin(0.1)
    return torch.sin(phase.clamp_max(np.pi / 2))


def most_alike(averages: Images, structure: Structure, diameter_px: float, pixel_A: float) -> list[Likeness]:
    """Find the projection most like each average `(k, n, n)`, by cross-correlation within the mask.

    The averages are compared as they are and mirrored.
    """
    k, n, _ = averages.shape
    library = build_library([structure], VIEWS, seed=SEED)
    shown = torch.from_numpy(averages)
    spectra = torch.fft.rfft2(prepare(torch.cat((shown, shown.flip(2))), diameter_px))
    seen = first_peak(n, pixel_A)
    best = [Likeness(-1, averages[0])] * (2 * k)
    every, ones, centres = torch.arange(VIEWS), torch.ones(VIEWS), torch.full((VIEWS, 2), float(n // 2))
    for degrees in range(0, 360, STEP_DEG):
        projections = torch.zeros(VIEWS, n, n)
        angles = ones * float(np.radians(degrees))
        place(projections, library, every, 0 * every, every, centres, ones * diameter_px, angles, ones)
        projections = torch.fft.irfft2(torch.fft.rfft2(projections) * seen, s=(n, n))
        conjugates = torch.fft.rfft2(prepare(projections, diameter_px)).conj()
        for i, spectrum in enumerate(spectra):
            likeness = torch.fft.irfft2(spectrum * conjugates, s=(n, n))
            if float(likeness.max()) > best[i].correlation:
                view, y, x = (int(j) for j in np.unravel_index(int(likeness.argmax()), likeness.shape))
                best[i] = Likeness(float(likeness.max()), torch.roll(projections[view], (y, x), (0, 1)).numpy())
    mirrored = [Likeness(each.correlation, each.image[:, ::-1]) for each in best[k:]]
    return [max(pair, key=lambda each: each.correlation) for pair in zip(best[:k], mirrored, strict=True)]
