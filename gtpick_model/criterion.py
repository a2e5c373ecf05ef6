"""The set loss over everything the network predicts in training."""

import torch
from torch import Tensor

from gtpick_model.assignment import assign
from gtpick_model.config import ModelConfig
from gtpick_model.heads import Detections
from gtpick_model.losses import CLASS_WEIGHT, box_loss, sigmoid_focal, weighted_cross_entropy
from gtpick_model.network import Outputs
from gtpick_model.tiles import at


def set_loss(
    detections: Detections, targets: list[Tensor], groups: int, config: ModelConfig, background: Tensor | None = None
) -> Tensor:
    """Loss of one set of detections against the particles, per particle and group.

    `background` as in `Tiles`.
    """
    match = assign(detections, targets, groups)
    positive = torch.zeros_like(detections.logits)
    positive[match.tile, match.query] = 1.0
    classify = sigmoid_focal if config.classification == "focal" else weighted_cross_entropy
    wrong = classify(detections.logits, positive)
    if background is not None:
        wrong = wrong * torch.where(positive > 0, positive, at(background, detections.boxes))
    loss = CLASS_WEIGHT * wrong.sum()
    if len(match.tile):
        offset = torch.tensor([0, *(len(t) for t in targets)], device=positive.device).cumsum(0)
        wanted = torch.cat(targets)[offset[match.tile] + match.particle]
        loss = loss + box_loss(detections.boxes[match.tile, match.query], wanted)
    return loss / (max(sum(len(t) for t in targets), 1) * groups)


def total_loss(
    outputs: Outputs, targets: list[Tensor], config: ModelConfig, background: Tensor | None = None
) -> Tensor:
    """Sum of the set losses of all decoder layers (all groups) and of the encoder's proposals (one
    group).
    """
    layers = [set_loss(layer, targets, config.groups, config, background) for layer in outputs.layers]
    loss = torch.stack(layers).sum()
    if outputs.proposals is not None:
        loss = loss + set_loss(outputs.proposals, targets, 1, config, background)
    return loss
