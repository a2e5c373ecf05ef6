"""From the electron image to the stored one: noise, illumination, and what processing did to it
before we see it.
"""

import numpy as np
import torch
from torch import Tensor

from gtpick_model.averaging import averaging


def coloured_noise(shape: tuple[int, int], slope: Tensor, corner_px: Tensor, generator: torch.Generator) -> Tensor:
    """Noise `(b, h, w)` of unit variance whose power falls as frequency^-slope above 1 / corner_px,
    both `(b,)`.
    """
    ky, kx = torch.fft.fftfreq(shape[0], device=slope.device), torch.fft.rfftfreq(shape[1], device=slope.device)
    k2 = ky[:, None] ** 2 + kx**2
    envelope = (1 + k2 * corner_px[:, None, None] ** 2) ** (-slope[:, None, None] / 4)
    white = torch.randn(len(slope), *shape, generator=generator, device=generator.device)
    return unit_variance(torch.fft.irfft2(torch.fft.rfft2(white) * envelope, s=shape))


def unit_variance(images: Tensor) -> Tensor:
    """Divide each `(h, w)` of a batch by its standard deviation."""
    centred = images - images.mean(dim=(1, 2), keepdim=True)
    return images / centred.square().mean(dim=(1, 2), keepdim=True).sqrt()


def gradient(shape: tuple[int, int], slope: Tensor) -> Tensor:
    """Planes `(b, h, w)` that rise by twice `slope` `(b, 2)` along x and y: ice that thins towards
    one side.
    """
    y, x = (torch.linspace(-1, 1, n, device=slope.device) for n in shape)
    return slope[:, 0, None, None] * x[None, None, :] + slope[:, 1, None, None] * y[None, :, None]


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blur `(h, w)` with mirrored borders."""
    reach = max(1, int(3 * sigma_px + 0.5))
    axis = torch.arange(-reach, reach + 1, device=image.device).float()
    kernel = torch.exp(-0.5 * (axis / sigma_px) ** 2)
    down, across = (averaging(kernel / kernel.sum(), length, edge_repeated=False) for length in image.shape)
    return down @ image @ across.T


def respond(rng: np.random.Generator, images: Tensor, share: float) -> Tensor:
    """Images `(b, h, w)` of detectors and of what was done before they are seen: of a `share` power
    falls towards the highest frequencies, as anti-aliasing leaves it, and of another one the lowest
    are taken off.
    """
    if not share:
        return images
    shape, count = images.shape[1:], len(images)
    ky, kx = torch.fft.fftfreq(shape[0], device=images.device), torch.fft.rfftfreq(shape[1], device=images.device)
    k2 = ky[:, None] ** 2 + kx**2

    def drawn(low: float, high: float, unchanged: float) -> Tensor:
        values = np.where(rng.random(count) < share, np.exp(rng.uniform(np.log(low), np.log(high), count)), unchanged)
        return torch.as_tensor(values, dtype=torch.float32, device=images.device)[:, None, None]

    at_nyquist, slowest = drawn(0.12, 0.7, 1.0), drawn(0.015, 0.1, 1e-6)  # amplitude; cycles/px
    response = at_nyquist ** (k2 / 0.25) * -torch.expm1(-k2 / slowest**2)
    response[:, 0, 0] = 1
    return torch.fft.irfft2(torch.fft.rfft2(images) * response, s=shape)


def prefilter(rng: np.random.Generator, image: Tensor, extent_px: float) -> Tensor:
    """The look of micrographs that were denoised or contrast-equalised before they reached the
    picker.
    """
    if rng.random() < 0.8:
        image = gaussian_blur(image, rng.uniform(0.03, 0.14) * extent_px)
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
        low, high = torch.quantile(sample, sample.new_tensor([0.005, 0.995])).tolist()
        image = ((image - low) / max(high - low, 1e-6) * 255).clamp(0, 255).round()
    return image


def smear_borders(rng: np.random.Generator, image: Tensor, extent_px: float) -> tuple[Tensor, Tensor]:
    """Borders repeated outward, as frame alignment leaves them; returns the image and the `(h, w)`
    region.

    Filters applied later leave streaks as wide as particles, and darker, for repeated pixels do not
    average out.
    """
    image = image.clone()
    region = torch.zeros_like(image, dtype=torch.bool)
    streak_px = rng.uniform(0.1, 0.25) * extent_px if rng.random() < 0.6 else 0.0
    contrast = rng.uniform(0.8, 2.5)
    for side in rng.permutation(4)[: int(rng.integers(1, 5))].tolist():
        lines, marked = (image, region) if side < 2 else (image.T, region.T)
        width = min(int(rng.uniform(0.2, 2.0) * extent_px) + 1, len(lines) // 3)
        band, source = (slice(-width, None), -width - 1) if side % 2 else (slice(width), width)
        lines[band], marked[band] = _streaks(lines[source], streak_px, contrast), True
    return image, region


def _streaks(line: Tensor, width_px: float, contrast: float) -> Tensor:
    """Blur a line `(n,)` to streaks of a width, with so many times its contrast."""
    frequency = torch.fft.rfftfreq(len(line), device=line.device)
    envelope = torch.exp(-2 * (torch.pi * frequency * width_px) ** 2)
    blurred = torch.fft.irfft(torch.fft.rfft(line) * envelope, n=len(line))
    return line.mean() + (blurred - blurred.mean()) * (contrast * line.std() / blurred.std().clamp_min(1e-6))
