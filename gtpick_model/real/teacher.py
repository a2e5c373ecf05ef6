"""What a network sees on whole real micrographs, and what that says about places that nobody
labelled.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit, logit

from gtpick_model.labelled import share_with_label, without_label
from gtpick_model.network import GTPick
from gtpick_rt.detection.merge import merge
from gtpick_rt.evaluate.curves import curve
from gtpick_rt.types import FloatArray, Picks

RADIUS = 1 / 3
"""A detection is of a label whose centre lies within this fraction of the nominal diameter."""
FLOOR = 0.02
"""Calibrated score from which a detection says anything."""
TILE_PX = 192
"""Smaller than in picking, for attention costs the square of a tile's area."""
OVERLAP = 0.25
"""Of neighbouring tiles, in tiles."""


def detect_whole(network: GTPick, image: FloatArray, calibration: tuple[float, float] = (1.0, 0.0)) -> Picks:
    """Detect on a normalised image `(h, w)` of any size, in its pixels, above `FLOOR`; scores are
    calibrated.
    """
    tile_px, device = min(TILE_PX, network.config.tile_px), next(network.parameters()).device
    height, width = image.shape
    padded = np.pad(image, [(0, max(0, tile_px - n)) for n in image.shape], mode="symmetric")
    corners = [(y, x) for y in _starts(padded.shape[0], tile_px) for x in _starts(padded.shape[1], tile_px)]
    tiles = np.stack([padded[y : y + tile_px, x : x + tile_px] for y, x in corners])[:, None]
    with torch.no_grad():
        answers = [network(part).layers[-1] for part in torch.from_numpy(tiles).to(device).split(16)]
    score = np.concatenate([answer.logits.sigmoid().float().cpu().numpy() for answer in answers])
    boxes = np.concatenate([answer.boxes.float().cpu().numpy() for answer in answers])
    boxes[..., :2] += np.array([(x, y) for y, x in corners], np.float32)[:, None]
    a, b = calibration
    score, boxes = expit(a * logit(score.ravel()) + b).astype(np.float32), boxes.reshape(-1, 3)
    x, y = boxes[:, 0], boxes[:, 1]
    kept = (score > FLOOR) & (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    return merge(Picks(boxes[kept, :2], boxes[kept, 2], score[kept]), 0.5)


def _starts(length: int, tile_px: int) -> list[int]:
    count = math.ceil((length - tile_px) / (tile_px * (1 - OVERLAP))) + 1
    return [int(start) for start in np.linspace(0, length - tile_px, count).round()]


def unlabelled(found: Sequence[Picks], centres: Sequence[FloatArray], nominal_px: float) -> list[Picks]:
    """What was detected on the micrographs of one folder beside their labels.

    Scores say how sure each detection is to be no particle: the share of the folder's particles
    that have a label decides it; 0 where nobody labelled any.

    Args:
        found: detections on each micrograph; scores are probabilities.
        centres: `(m, 2)` labels of each.
        nominal_px: nominal diameter of the particles.
    """
    ones = [np.ones(len(xy), np.float32) for xy in centres]
    labels = [Picks(xy, one, one) for xy, one in zip(centres, ones, strict=True)]
    scored = curve(list(zip(found, labels, strict=True)), RADIUS * nominal_px)
    share = share_with_label(scored) if scored.labels else 0.0
    return [without_label(each, xy, nominal_px, share) for each, xy in zip(found, centres, strict=True)]
