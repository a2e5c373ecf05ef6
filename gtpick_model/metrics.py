"""How well a network detects particles on simulated tiles, by the same rules as picks on
micrographs.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.network import GTPick
from gtpick_model.tiles import Tiles, at
from gtpick_rt.detection.merge import merge
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.types import Picks

RADIUS = 1 / 3
"""A detection matches a particle when their centres are within this fraction of the particle's
diameter."""
DUPLICATE = 0.5
"""Of two detections within this fraction of their mean diameter, the better one stays."""
FLOOR = 0.02


@torch.no_grad()
def detect(network: GTPick, batches: list[Tiles]) -> list[tuple[Picks, Picks]]:
    """Run the network in evaluation mode; returns (detections, particles) of each tile, in particle
    diameters.

    What is detected where it would not count as wrong, and is of no particle, is left out.
    """
    network.eval()
    pairs = []
    for tiles in batches:
        answer = network(tiles.images).layers[-1]
        counts = torch.ones_like(answer.logits) if tiles.background is None else at(tiles.background, answer.boxes)
        answers = zip(answer.logits.sigmoid(), answer.boxes, tiles.boxes, counts, strict=True)
        for logits, boxes, truth, counted in answers:
            near = (torch.cdist(boxes[:, :2], truth[:, :2]) < RADIUS * truth[:, 2]).any(1)
            kept = (logits > FLOOR) & (near | (counted > 0.5))
            unit = float(truth[:, 2].mean()) if len(truth) else network.config.nominal_diameter_px
            found = _picks(boxes[kept] / unit, logits[kept])
            pairs.append((merge(found, DUPLICATE), _picks(truth / unit, torch.ones(len(truth)))))
    return pairs


def score_tiles(network: GTPick, batches: list[Tiles]) -> Curve:
    """The precision-recall curve of the network over batches of tiles."""
    return curve(detect(network, batches), RADIUS)


def _picks(boxes: Tensor, score: Tensor) -> Picks:
    def array(x: Tensor) -> NDArray[np.float32]:
        return x.float().cpu().numpy()

    return Picks(array(boxes[:, :2]), array(boxes[:, 2]), array(score))
