"""From the electron image to the stored one: noise, illumination, and what processing did to it before we see it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtpick_model.simulator.junk import smooth_noise

Shape = tuple[int, int]


def coloured_noise(shape: Shape, slope: float, corner_px: float, generator: torch.Generator) -> Tensor:
    """Noise `(h, w)` of unit variance whose power falls as frequency^-slope above 1 / corner_px."""
    device = generator.device
    ky, kx = torch.fft.fftfreq(shape[0], device=device)[:, None], torch.fft.rfftfreq(shape[1], device=device)[None]
    envelope = (1 + (kx**2 + ky**2) * corner_px**2) ** (-slope / 4)
    white = torch.fft.rfft2(torch.randn(shape, generator=generator, device=device))
    field = torch.fft.irfft2(white * envelope, s=shape)
    return field / field.std()


def illumination(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Tensor:
    """Ice-thickness gradient and slow waves `(h, w)`, in units of the noise."""
    y, x = (torch.linspace(-1, 1, n, device=generator.device) for n in shape)
    slope = rng.normal(0, 1.0, 2)
    waves = smooth_noise(shape, rng.uniform(2.0, 6.0) * extent_px, generator)
    return slope[0] * x[None, :] + slope[1] * y[:, None] + rng.uniform(0, 0.5) * waves


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blur `(h, w)` with mirrored borders."""
    reach = max(1, int(3 * sigma_px + 0.5))
    axis = torch.arange(-reach, reach + 1, device=image.device).float()
    kernel = torch.exp(-0.5 * (axis / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def prefilter(rng: np.random.Generator, image: Tensor, extent_px: float) -> Tensor:
    """The look of micrographs that were denoised or contrast-equalised before they reached the picker."""
    if rng.random() < 0.8:
        image = gaussian_blur(image, rng.uniform(0.03, 0.1) * extent_px)
    if rng.random() < 0.5:  # local contrast equalisation
        reach = rng.uniform(1.0, 4.0) * extent_px
        reach = min(reach, min(image.shape) / 6.5)
        centred = image - gaussian_blur(image, reach)
        local = gaussian_blur(centred.square(), reach).sqrt()
        mix = rng.uniform(0.3, 1.0)
        image = centred / (local * mix + local.mean() * (1 - mix)).clamp_min(1e-6)
    if rng.random() < 0.4:  # small deviations are suppressed, as non-local means does
        image = image - image.mean()
        image = image * (image.abs() / (image.abs() + rng.uniform(0.2, 1.0) * image.std()))
    if rng.random() < 0.7:  # stored in 8 bits with clipped tails
        sample = image[:: max(1, image.shape[0] // 128)].flatten()
        low, high = (float(torch.quantile(sample, q)) for q in (0.005, 0.995))
        image = ((image - low) / max(high - low, 1e-6) * 255).clamp(0, 255).round()
    return image


def smear_borders(rng: np.random.Generator, image: Tensor, extent_px: float) -> tuple[Tensor, Tensor]:
    """Borders repeated outward, as frame alignment leaves them; returns the image and the `(h, w)` region."""
    image = image.clone()
    region = torch.zeros_like(image, dtype=torch.bool)
    for side in rng.permutation(4)[: int(rng.integers(1, 5))].tolist():
        lines, marked = (image, region) if side < 2 else (image.T, region.T)
        width = min(int(rng.uniform(0.2, 2.0) * extent_px) + 1, len(lines) // 3)
        if side % 2:
            lines[-width:], marked[-width:] = lines[-width - 1].clone(), True
        else:
            lines[:width], marked[:width] = lines[width].clone(), True
    return image, region
