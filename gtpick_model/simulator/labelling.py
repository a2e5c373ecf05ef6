"""Which of the particles that were drawn are to pick, and of which nobody can say."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.simulator.packing import Points

_AROUND = np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])
"""Places on a circle of radius 1."""


def is_free(xy: Points, forbidden: Tensor) -> NDArray[np.bool_]:
    """Which points `(..., 2)` lie on the field and outside its forbidden region, `(...)`."""
    height, width = forbidden.shape
    column, row = np.moveaxis(np.rint(xy).astype(int), -1, 0)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    free: NDArray[np.bool_] = ~forbidden.cpu().numpy()[row.clip(0, height - 1), column.clip(0, width - 1)]
    return inside & free


def is_doubtful(xy: Points, extent_px: float, forbidden: Tensor) -> NDArray[np.bool_]:
    """Which particles `(n, 2)` lie in the forbidden region and reach out of it, `(n,)`: they may be
    seen as well as any, and are not to pick only because carbon or ice begins there.
    """
    around = is_free(xy[:, None] + extent_px / 2 * _AROUND, forbidden)
    return ~is_free(xy, forbidden) & around.any(axis=1)


def boxes_of(xy: Points, extent_px: Points, kept: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Boxes `(m, 3)` of the points that are kept."""
    boxes = np.column_stack((xy.reshape(-1, 2), extent_px))[kept]
    return torch.as_tensor(boxes, dtype=torch.float32, device=device)
