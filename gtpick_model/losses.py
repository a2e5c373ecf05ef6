"""The training loss: sigmoid focal loss (GTpick's third contribution) for class, L1 for centre and
size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA, GAMMA = 0.25, 2.0
CLASS_WEIGHT, CENTRE_WEIGHT, SIZE_WEIGHT = 2.0, 2.0, 1.0
NO_OBJECT_WEIGHT = 0.1
"""DETR's weight of the no-object class, for the cross-entropy of the ablation table."""


def sigmoid_focal(logits: Tensor, positive: Tensor) -> Tensor:
    """Focal loss of each logit; `positive` is 0 or 1, of the same shape."""
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    missed = positive * (1 - probability) + (1 - positive) * probability
    weight = positive * ALPHA + (1 - positive) * (1 - ALPHA)
    return weight * missed**GAMMA * cross_entropy


def weighted_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Binary cross-entropy of each logit with negatives weighted down."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return cross_entropy * (positive + NO_OBJECT_WEIGHT * (1 - positive))


def focal_cost(logits: Tensor) -> Tensor:
    """What calling each query a particle costs the matching: focal loss as a positive minus as a
    negative.
    """
    one = torch.ones_like(logits)
    return sigmoid_focal(logits, one) - sigmoid_focal(logits, torch.zeros_like(logits))


def box_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """Sum over matched pairs `(n, 3)` of the centre error in diameters and of the logarithm of the
    size ratio.
    """
    centre = ((boxes[:, :2] - target[:, :2]).abs() / target[:, 2:]).sum()
    size = (boxes[:, 2].log() - target[:, 2].log()).abs().sum()
    return CENTRE_WEIGHT * centre + SIZE_WEIGHT * size
