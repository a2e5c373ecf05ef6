"""The runtime's normalisation of a working image, on batches of simulated fields; a test holds the
two together.
"""

import torch
from torch import Tensor


def box_blur(images: Tensor, width_px: int) -> Tensor:
    """Mean over a centred box of odd width, borders mirrored with the edge pixel repeated.

    `(b, h, w)`.
    """
    for axis in (1, 2):
        before = torch.arange(-(width_px // 2) - 1, images.shape[axis] + width_px // 2, device=images.device)
        period = 2 * images.shape[axis]
        folded = before % period
        mirrored = torch.where(folded < images.shape[axis], folded, period - 1 - folded)
        total = images.index_select(axis, mirrored).double().cumsum(axis)
        ahead = total.narrow(axis, width_px, images.shape[axis])
        behind = total.narrow(axis, 0, images.shape[axis])
        images = ((ahead - behind) / width_px).to(images.dtype)
    return images


def normalise(images: Tensor, highpass_px: int, clip: float) -> Tensor:
    """Subtract the background, divide by the robust standard deviation, clip.

    `(b, h, w)` to the same shape.
    """
    flat = images - box_blur(box_blur(images, highpass_px), highpass_px)
    flat = flat - flat.flatten(1).median(1).values[:, None, None]
    deviation = 1.4826 * flat.abs().flatten(1).median(1).values[:, None, None]
    return (flat / deviation.clamp_min(1e-6)).clamp(-clip, clip)
