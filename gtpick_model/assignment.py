"""Grouped one-to-many assignment (GTpick's second contribution).

Hungarian matching in each query group by itself.
"""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gtpick_model.heads import Detections
from gtpick_model.losses import focal_cost

CLASS_COST, DISTANCE_COST, SIZE_COST = 2.0, 3.0, 0.5


class Assignment(NamedTuple):
    """Which query answers for which particle: three equally long index vectors."""

    tile: Tensor
    query: Tensor
    particle: Tensor
    """Index into the particles of that tile."""


def assign(detections: Detections, targets: list[Tensor], groups: int) -> Assignment:
    """Match each group's queries to particles one to one; a particle gets one query from every
    group.

    Args:
        detections: `(B, groups * K)` logits and boxes.
        targets: for each tile, boxes `(m, 3)`: x, y, diameter in px.
        groups: number of query groups.
    """
    tiles, queries, particles = [], [], []
    for b, target in enumerate(targets):
        if len(target) == 0:
            continue
        cost = _cost(detections.logits[b], detections.boxes[b], target).cpu().numpy()
        per_group = cost.shape[0] // groups
        for g in range(groups):
            row, column = linear_sum_assignment(cost[g * per_group : (g + 1) * per_group])
            tiles += [b] * len(row)
            queries += (row + g * per_group).tolist()
            particles += column.tolist()
    device = detections.logits.device
    return Assignment(*(torch.as_tensor(v, dtype=torch.long, device=device) for v in (tiles, queries, particles)))


@torch.no_grad()
def _cost(logits: Tensor, boxes: Tensor, target: Tensor) -> Tensor:
    """`(Q, m)`: class, centre distance in diameters, and logarithm of the size ratio."""
    distance = torch.cdist(boxes[:, :2], target[:, :2]) / target[None, :, 2]
    size = (boxes[:, None, 2].log() - target[None, :, 2].log()).abs()
    return CLASS_COST * focal_cost(logits)[:, None] + DISTANCE_COST * distance + SIZE_COST * size
