"""From features to detections: a logit and a box (centre x, centre y, diameter, all in px of the
tile).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

PRIOR = 0.01
"""Probability of a particle that an untrained head gives (the focal loss's prior bias)."""


class Detections(NamedTuple):
    """Logits `(B, Q)` and boxes `(B, Q, 3)`: x, y and diameter in px of the tile."""

    logits: Tensor
    boxes: Tensor


class DetectionHead(nn.Module):
    """Predicts a logit and a correction of a reference box."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.classify = nn.Linear(dim, 1)
        self.locate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 3))
        nn.init.constant_(self.classify.bias, -math.log((1 - PRIOR) / PRIOR))
        last = self.locate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, reference: Tensor) -> Detections:
        """Features `(B, Q, D)` and reference boxes `(1 or B, Q, 3)` to detections.

        Centres move in units of the reference diameter; diameters scale by at most a factor e^1.5.
        """
        x = x.to(self.classify.weight.dtype)  # float32, also after layers in half precision
        shift = self.locate(x).float()
        diameter = reference[..., 2:]
        # Chosen by column, not concatenated: ONNX Runtime before 1.29 replays a concatenation of
        # unequal parts, in a CUDA graph, from memory that it has given away.
        is_size = torch.tensor([False, False, True], device=x.device)
        boxes = torch.where(is_size, diameter * torch.exp(1.5 * torch.tanh(shift)), reference + shift * diameter)
        return Detections(self.classify(x).squeeze(-1).float(), boxes)
