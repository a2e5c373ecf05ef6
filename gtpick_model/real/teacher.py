"""What a network sees on a whole real micrograph, and what that says about places that nobody
labelled.
"""

import copy
import math
from dataclasses import dataclass, field

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
FORGET = 0.9
"""Of the counts behind a folder's labelled share, what is kept at each micrograph."""


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


@dataclass
class Teacher:
    """A network whose detections say where there may be particles that nobody labelled."""

    network: GTPick
    calibration: tuple[float, float] = (1.0, 0.0)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By folder: scores of detections that have a label, and squares of all scores, both summed."""
    opinion: int = 0
    """Changes with what the teacher thinks."""

    def follow(self, network: GTPick, calibration: tuple[float, float]) -> None:
        """From now on, see as `network` does as it is now."""
        self.network, self.calibration = copy.deepcopy(network).eval(), calibration
        self.opinion += 1

    def share(self, folder: str) -> float:
        """Share of a folder's particles that have a label."""
        return share_with_label(*self.seen.get(folder, (0.0, 0.0)))

    def doubts(self, image: FloatArray, centres: FloatArray, nominal_px: float, folder: str) -> Picks:
        """What is seen on a normalised image `(h, w)` beside its labels `(m, 2)`.

        The score of each says how sure it is to be no particle. `nominal_px` is the nominal
        diameter of the particles of `folder` on this image.
        """
        found = detect_whole(self.network, image, self.calibration)
        if len(centres):
            self._count(found, centres, nominal_px, folder)
        return without_label(found, centres, nominal_px, self.share(folder) if len(centres) else 0.0)

    def _count(self, found: Picks, centres: FloatArray, nominal_px: float, folder: str) -> None:
        ones = np.ones(len(centres), np.float32)
        scored = curve([(found, Picks(centres, ones, ones))], RADIUS * nominal_px)
        before = self.seen.get(folder, (0.0, 0.0))
        now = (float((scored.score * scored.right).sum()), float((scored.score**2).sum()))
        labelled, all_seen = (FORGET * old + new for old, new in zip(before, now, strict=True))
        self.seen[folder] = (labelled, all_seen)
