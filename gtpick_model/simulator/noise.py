"""What a field is like where no particle lies."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from gtpick_model.simulator import detector
from gtpick_model.simulator.optics import uniform


def draw_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    power: Tensor,
    transfers: Tensor,
    extent_px: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Noise and illumination `(b, h, w)`, the noise of unit variance.

    Noise has three parts: structural noise of ice and solutes, which passes the optics as particles
    do; the detector's coloured noise; and shot noise. Ice of uneven thickness adds slow waves and a
    gradient, and where it is thicker there is more noise.

    Args:
        rng: draws what each field's noise is like.
        shape: of each field in px.
        power: `(b,)` mean square of a particle; on its device the noise is made.
        transfers: `(b, h, w // 2 + 1)`, see `optics.transfer`.
        extent_px: `(b,)` particle diameters, which waves of noise are measured by.
        generator: draws the noise itself.
    """
    n, device = len(power), power.device
    draw = partial(uniform, rng, power)

    def field(x: Tensor) -> Tensor:
        return x[:, None, None]

    structural, coloured = field(draw(0, 0.4)), field(draw(0, 0.25))
    solutes = detector.coloured_noise(shape, draw(0, 2.5), draw(0.2, 1.5) * extent_px, generator)
    solutes = detector.unit_variance(torch.fft.irfft2(torch.fft.rfft2(solutes) * transfers, s=shape))
    readout = detector.coloured_noise(shape, draw(0.5, 2.5), extent_px, generator)
    shot = torch.randn(n, *shape, generator=generator, device=device)
    noise = structural.sqrt() * solutes + coloured.sqrt() * readout + (1 - structural - coloured).sqrt() * shot
    ice = field(draw(0, 0.3)) * detector.coloured_noise(shape, draw(3, 4), draw(4, 20) * extent_px, generator)
    steep = rng.choice([1.0, 4.0], (n, 1), p=[0.8, 0.2])
    slope = torch.as_tensor(steep * rng.normal(0, 0.6, (n, 2)), dtype=torch.float32, device=device)
    tilt = detector.gradient(shape, slope)
    return noise * torch.exp(field(draw(0, 0.3)) * tilt.clamp(-2, 2)) + ice + tilt
