"""The microscope: contrast transfer function and envelope."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Optics:
    """Per-field optics; every tensor is `(b,)`."""

    pixel_A: Tensor
    voltage_kV: Tensor
    defocus_A: Tensor
    """Mean defocus, positive for underfocus."""
    astigmatism: Tensor
    """Relative difference of the two defocus values."""
    astigmatism_angle: Tensor
    amplitude_contrast: Tensor
    phase_shift: Tensor
    """Of a phase plate, in radians."""
    b_factor_A2: Tensor
    spherical_aberration_A: float = 2.7e7


def wavelength_A(voltage_kV: Tensor) -> Tensor:
    """Relativistic electron wavelength in Å."""
    volts = voltage_kV * 1e3
    return 12.2643 / torch.sqrt(volts + 0.978466e-6 * volts**2)


def transfer(optics: Optics, shape: tuple[int, int]) -> Tensor:
    """CTF times envelope `(b, h, w // 2 + 1)` on the frequencies of `torch.fft.rfft2`.

    The sign is that of an underfocused micrograph: multiplied with a positive density it gives dark
    particles.
    """
    height, width = shape
    device = optics.pixel_A.device
    ky = torch.fft.fftfreq(height, device=device)[None, :, None] / optics.pixel_A[:, None, None]
    kx = torch.fft.rfftfreq(width, device=device)[None, None, :] / optics.pixel_A[:, None, None]
    k2 = kx**2 + ky**2
    angle = torch.atan2(ky, kx)

    def field(x: Tensor) -> Tensor:
        return x[:, None, None]

    wave = field(wavelength_A(optics.voltage_kV))
    defocus = field(optics.defocus_A) * (
        1 + 0.5 * field(optics.astigmatism) * torch.cos(2 * (angle - field(optics.astigmatism_angle)))
    )
    phase = math.pi * wave * k2 * (defocus - 0.5 * optics.spherical_aberration_A * wave**2 * k2)
    phase = phase + field(optics.phase_shift) + torch.asin(field(optics.amplitude_contrast))
    return -torch.sin(phase) * torch.exp(-field(optics.b_factor_A2) * k2 / 4)


def uniform(rng: np.random.Generator, like: Tensor, low: float, high: float) -> Tensor:
    """One value per field, `(b,)`, on the device of `like`, which has one per field too."""
    return torch.as_tensor(rng.uniform(low, high, len(like)), dtype=torch.float32, device=like.device)


def draw_optics(rng: np.random.Generator, pixel_A: Tensor, defocus_A: tuple[float, float]) -> Optics:
    """Draw what microscopes are set to; `pixel_A` is `(b,)`, the range of defocus in Å."""
    n = len(pixel_A)
    draw = partial(uniform, rng, pixel_A)
    low, high = defocus_A
    plate = torch.as_tensor(rng.random(n) < 0.08, device=pixel_A.device)
    voltage = torch.as_tensor(rng.choice([200.0, 300.0], n), dtype=torch.float32, device=pixel_A.device)
    return Optics(
        pixel_A=pixel_A,
        voltage_kV=voltage,
        defocus_A=draw(low, high),
        astigmatism=draw(0, 0.1),
        astigmatism_angle=draw(0, math.pi),
        amplitude_contrast=draw(0.06, 0.14),
        phase_shift=torch.where(plate, draw(0.5, 2.0), torch.zeros_like(pixel_A)),
        b_factor_A2=draw(40, 400),
    )
