"""Weighted means along the axes of an image, as products with matrices: for images as small as
tiles much faster than convolutions with long kernels.
"""

import torch
from torch import Tensor


def averaging(kernel: Tensor, length: int, *, edge_repeated: bool) -> Tensor:
    """What takes weighted means along an axis of a length, `(length, length)`.

    `kernel` `(2 r + 1,)`, on any device, is centred. Beyond the borders the image is mirrored, with
    or without the edge pixel `edge_repeated`.
    """
    reach = len(kernel) // 2
    at = torch.arange(-reach, reach + 1, device=kernel.device) + torch.arange(length, device=kernel.device)[:, None]
    last = 2 * length - 1 if edge_repeated else 2 * length - 2
    folded = at % (last + int(edge_repeated))
    mirrored = torch.where(folded < length, folded, last - folded)
    matrix = torch.zeros(length, length, dtype=kernel.dtype, device=kernel.device)
    return matrix.scatter_add_(1, mirrored, kernel.expand(length, -1))
