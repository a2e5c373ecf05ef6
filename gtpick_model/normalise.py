"""The runtime's normalisation of a working image, on batches of simulated fields; a test holds the
two together.
"""

from functools import lru_cache

import torch
from torch import Tensor

from gtpick_model.averaging import averaging


def background(images: Tensor, width_px: int) -> Tensor:
    """Mean over a centred box of odd width, taken twice, borders mirrored with the edge pixel
    repeated: `(b, h, w)` to the same shape.
    """
    down, across = (_twice_a_box(length, width_px).to(images.device) for length in images.shape[1:])
    return down @ images @ across.T


@lru_cache(maxsize=16)
def _twice_a_box(length: int, width_px: int) -> Tensor:
    box = torch.full((width_px,), 1 / width_px, dtype=torch.float64)
    return torch.linalg.matrix_power(averaging(box, length, edge_repeated=True), 2).float()


def normalise(images: Tensor, highpass_px: int, clip: float) -> Tensor:
    """Subtract the background, divide by the robust standard deviation, clip.

    `(b, h, w)` to the same shape.
    """
    flat = images - background(images, highpass_px)
    flat = flat - flat.flatten(1).median(1).values[:, None, None]
    deviation = 1.4826 * flat.abs().flatten(1).median(1).values[:, None, None]
    return (flat / deviation.clamp_min(1e-6)).clamp(-clip, clip)
