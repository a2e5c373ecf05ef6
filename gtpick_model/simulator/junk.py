"""What is on a grid besides particles: carbon, gold beads, ice crystals, contamination, crystalline ice, aggregates.

Each function returns density to add to one field and the region in which nothing is to be picked (none for a lattice
of ice, on which particles stay visible). Amplitudes are in units of a particle's root mean square density.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, int]


class Junk(NamedTuple):
    """One unwanted object on a field."""

    density: Tensor
    """`(h, w)` to add before the optics."""
    region: Tensor
    """`(h, w)` bool: no particle is labelled here."""


def _axes(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    y, x = (torch.arange(n, device=device, dtype=torch.float32) for n in shape)
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return yy, xx


def smooth_noise(shape: Shape, period_px: float, generator: torch.Generator) -> Tensor:
    """Gaussian random field `(h, w)` of unit variance, coarser than `period_px`."""
    device = generator.device
    ky, kx = torch.fft.fftfreq(shape[0], device=device)[:, None], torch.fft.rfftfreq(shape[1], device=device)[None]
    noise = torch.fft.rfft2(torch.randn(shape, generator=generator, device=device))
    field = torch.fft.irfft2(noise * torch.exp(-0.5 * (kx**2 + ky**2) * period_px**2), s=shape)
    return field / field.std().clamp_min(1e-6)


def _blob(rng: np.random.Generator, shape: Shape, radius_px: float, roughness: float, device: torch.device) -> Tensor:
    """Signed distance-like map of a closed random outline: positive inside, 1 at the centre."""
    y, x = _axes(shape, device)
    cx, cy = rng.uniform(-0.1, 1.1, 2) * (shape[1], shape[0])
    angle = torch.atan2(y - cy, x - cx)
    outline = torch.ones(shape, device=device)
    for order in range(2, 8):
        outline += rng.normal(0, roughness / order) * torch.cos(order * angle + rng.uniform(0, 2 * math.pi))
    distance = torch.hypot((x - cx) * math.exp(rng.normal(0, 0.2)), y - cy)
    return 1 - distance / (radius_px * outline.clamp_min(0.3))


def carbon(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """The edge of a hole in the support film, with the film's own texture."""
    y, x = _axes(shape, generator.device)
    radius = rng.uniform(8, 60) * extent_px
    direction = rng.uniform(0, 2 * math.pi)
    depth = rng.uniform(0.1, 0.7) * min(shape)
    cx = shape[1] / 2 + math.cos(direction) * (radius + min(shape) / 2 - depth)
    cy = shape[0] / 2 + math.sin(direction) * (radius + min(shape) / 2 - depth)
    inward = radius - torch.hypot(x - cx, y - cy)
    if rng.random() < 0.5:
        inward = -inward - 2 * (min(shape) / 2 - depth)  # the film is outside a round hole instead of a flake
    film = torch.sigmoid(inward / rng.uniform(0.3, 2.0))
    texture = smooth_noise(shape, rng.uniform(0.02, 0.15) * extent_px, generator)
    density = film * (rng.uniform(0.5, 6) + rng.uniform(0.5, 2.5) * texture)
    return Junk(density, inward > -0.3 * extent_px)


def gold(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """A few gold beads: small, round, very dense."""
    y, x = _axes(shape, generator.device)
    density, region = (
        torch.zeros(shape, device=generator.device),
        torch.zeros(shape, dtype=torch.bool, device=generator.device),
    )
    for _ in range(int(rng.integers(1, 6))):
        radius = rng.uniform(0.12, 0.5) * extent_px
        cx, cy = rng.uniform(0, 1, 2) * (shape[1], shape[0])
        r = torch.hypot(x - cx, y - cy)
        density += rng.uniform(8, 30) * torch.sigmoid((radius - r) / 0.4)
        region |= r < radius + 0.35 * extent_px
    return Junk(density, region)


def contamination(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """Ice crystals and dirt: irregular, denser than protein, of any size."""
    density, region = (
        torch.zeros(shape, device=generator.device),
        torch.zeros(shape, dtype=torch.bool, device=generator.device),
    )
    for _ in range(int(rng.integers(1, 4))):
        radius = math.exp(rng.uniform(math.log(0.5), math.log(3.5))) * extent_px
        level = _blob(rng, shape, radius, rng.uniform(0.1, 0.6), generator.device)
        inside = torch.sigmoid(level * radius / rng.uniform(0.5, 2.5))
        texture = 1 + rng.uniform(0, 0.5) * smooth_noise(shape, 0.3 * radius, generator)
        hollow = 1 - rng.uniform(0, 0.9) * (rng.random() < 0.3) * level.clamp(0, 1)
        density += math.exp(rng.uniform(math.log(2), math.log(15))) * inside * texture * hollow
        region |= level * radius > -0.4 * extent_px
    return Junk(density, region)


def crystalline_ice(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """A patch with a lattice; what remains of it after binning is a fine periodic texture. Particles stay visible."""
    y, x = _axes(shape, generator.device)
    lattice = torch.zeros(shape, device=generator.device)
    angle, period = rng.uniform(0, math.pi), rng.uniform(2.5, 7)
    for turn in (0, math.pi / 3, 2 * math.pi / 3):
        along = x * math.cos(angle + turn) + y * math.sin(angle + turn)
        lattice += torch.cos(2 * math.pi * along / period + rng.uniform(0, 2 * math.pi))
    patch = torch.sigmoid(4 * _blob(rng, shape, rng.uniform(2, 10) * extent_px, 0.4, generator.device))
    return Junk(rng.uniform(0.1, 0.7) * patch * lattice, torch.zeros(shape, dtype=torch.bool, device=generator.device))


def mottled_ice(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """Polycrystalline ice: dark and bright blotches of a particle's size, where crystals diffract, often cracked."""
    period = math.exp(rng.uniform(math.log(0.35), math.log(1.8))) * extent_px
    blotches = smooth_noise(shape, period, generator)
    blotches = blotches + rng.uniform(0, 0.8) * smooth_noise(shape, rng.uniform(1.5, 3) * period, generator)
    skew = rng.uniform(0, 0.6)  # a few crystals are much darker than all others
    density = (torch.exp(skew * blotches) - 1) / max(skew, 0.05) if skew > 0.05 else blotches
    if rng.random() < 0.5:
        density = density + rng.uniform(0.3, 1.5) * _cracks(rng, shape, extent_px, generator)
    patch = torch.ones(shape, device=generator.device)
    if rng.random() < 0.4:
        patch = torch.sigmoid(4 * _blob(rng, shape, rng.uniform(2, 10) * extent_px, 0.4, generator.device))
    passes = min(1.0, extent_px / period) ** 2  # the optics let little of slow waves through, but crystals diffract
    return Junk(math.exp(rng.uniform(0, math.log(6))) / passes * patch * density, patch > 0.3)


def _cracks(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Tensor:
    """Boundaries `(h, w)` of crystals, dark beside bright: lines equally far from the two nearest of some points."""
    spacing = rng.uniform(1.0, 4.0) * extent_px
    count = max(3, int(shape[0] * shape[1] / spacing**2))
    points = torch.rand(count, 2, generator=generator, device=generator.device)
    y, x = _axes((-(-shape[0] // 2), -(-shape[1] // 2)), generator.device)  # at half the resolution
    bend = 0.3 * spacing * smooth_noise((len(y), len(y[0])), 0.3 * spacing, generator)
    places = torch.stack((2 * y + bend, 2 * x - bend), dim=-1).view(-1, 2)
    scaled = points * torch.tensor(shape, device=generator.device)
    nearest = torch.cdist(places, scaled).topk(2, dim=1, largest=False).values
    across = (nearest[:, 1] - nearest[:, 0]).view(1, 1, *y.shape)
    across = torch.nn.functional.interpolate(across, size=shape, mode="bilinear", align_corners=False)[0, 0]
    width = rng.uniform(0.04, 0.12) * extent_px
    line = torch.exp(-0.5 * (across / width) ** 2) - 0.5 * torch.exp(-0.5 * ((across - 3 * width) / width) ** 2)
    return rng.choice([-1.0, 1.0]) * line


def filaments(rng: np.random.Generator, shape: Shape, extent_px: float, generator: torch.Generator) -> Junk:
    """Strands of denatured protein, DNA or a cracked film: long, thin and wavy."""
    y, x = _axes(shape, generator.device)
    direction = rng.uniform(0, math.pi)
    along = (x - shape[1] / 2) * math.cos(direction) + (y - shape[0] / 2) * math.sin(direction)
    across = (y - shape[0] / 2) * math.cos(direction) - (x - shape[1] / 2) * math.sin(direction)
    wave = torch.full(shape, rng.uniform(-0.4, 0.4) * min(shape), device=generator.device)
    for _ in range(3):
        period = rng.uniform(2, 12) * extent_px
        wave = wave + rng.uniform(0, 0.12) * period * torch.sin(2 * math.pi * along / period + rng.uniform(0, 6.3))
    width = rng.uniform(0.06, 0.3) * extent_px
    profile = torch.exp(-0.5 * ((across - wave) / width) ** 2)
    return Junk(rng.uniform(0.7, 3) * profile, (across - wave).abs() < width + 0.3 * extent_px)


Kinds = tuple[tuple[Callable[[np.random.Generator, Shape, float, torch.Generator], Junk], float], ...]

KINDS: Kinds = (
    (carbon, 0.10),
    (gold, 0.05),
    (contamination, 0.22),
    (crystalline_ice, 0.04),
    (mottled_ice, 0.06),
    (filaments, 0.06),
)
"""Each kind of junk with the share of fields that have it; aggregates and fragments: see field.py."""
