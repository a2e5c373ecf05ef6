"""Real micrographs at the working scale with what is known of them, and training tiles cut out of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.tiles import Tiles
from gtpick_rt.evaluate.curves import Curve
from gtpick_rt.types import FloatArray, Picks

AT_MOST = 0.9
"""Share of the particles that have a label, unless it is said that all have one: of what a network
picks beside the labels of EMPIAR-10017 most are particles
(benchmarks/accuracy/blind_rating.py)."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A micrograph as the network sees it, and what its user marked. Lengths in working pixels."""

    data: FloatArray
    """`(h, w)`, normalised."""
    boxes: FloatArray
    """`(m, 3)`: x, y, diameter of the particles that are labelled."""
    background: FloatArray
    """`(h, w)` from 0 to 1: how sure it is that what is not labelled there is no particle."""


def background_map(shape: tuple[int, ...], diameter_px: float, unlabelled: FloatArray, sure: FloatArray) -> FloatArray:
    """How sure `(h, w)` it is that there is no particle where none is labelled.

    Nothing is known within a radius of the border, where nobody labels particles since they cannot
    be cut out whole.

    Args:
        shape: of the image.
        diameter_px: of a particle.
        unlabelled: `(n, 2)` centres of what could be particles that were passed over.
        sure: `(n,)` how sure it is that each is none, down to its radius; where they overlap the
            least counts.
    """
    background = np.ones(shape, np.float32)
    row, column = np.ogrid[: shape[0], : shape[1]]
    reach = diameter_px / 2
    for (x, y), value in zip(unlabelled.tolist(), sure.tolist(), strict=True):
        rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 2))
        columns = slice(max(0, int(x - reach)), max(0, int(x + reach) + 2))
        inside = (row[rows] - y) ** 2 + (column[:, columns] - x) ** 2 <= reach**2
        part = background[rows, columns]
        part[inside] = np.minimum(part[inside], value)
    rim = round(reach)
    inner = np.zeros(shape, np.float32)
    inner[rim : shape[0] - rim, rim : shape[1] - rim] = 1
    return background * inner


def without_label(found: Picks, labels: FloatArray, diameter_px: float, share: float) -> Picks:
    """The detections that are of none of the labels `(m, 2)`; their scores say how sure each is to
    be no particle.

    With p, a detection's score as a probability, and `share` of the particles that have a label,
    one without a label is none with probability (1 - p) / (1 - p share).
    """
    apart = np.linalg.norm(found.xy_px[:, None] - labels[None], axis=-1).min(axis=1, initial=np.inf)
    unlabelled = found[apart > diameter_px / 2]
    p = unlabelled.score.astype(float)
    none = np.ones_like(p) if share == 1 else (1 - p) / (1 - p * share)
    return replace(unlabelled, score=none.astype(np.float32))


def share_with_label(seen: Curve) -> float:
    """Share of the particles that have a label: so much of its score tells best whether a detection
    has one. Scores are probabilities; they cannot tell that none was passed over.
    """
    labelled, every = (seen.score * seen.right).sum(), (seen.score**2).sum()
    return float(np.clip(labelled / max(every, 1e-6), 0.05, AT_MOST))


def crops(images: Sequence[LabelledImage], count: int, tile_px: int, rng: np.random.Generator) -> Tiles:
    """Random crops, flipped and turned; every other one shows a label, for labels can be few.

    Every image must be at least as large as a tile: see `at_least_a_tile`.
    """
    area = np.array([image.data.size for image in images], float)
    labels = np.array([len(image.boxes) for image in images], float)
    drawn = []
    for i in range(count):
        about_label = i % 2 == 0 and labels.sum() > 0
        share = labels if about_label else area
        image = images[rng.choice(len(images), p=share / share.sum())]
        drawn.append(crop(image, tile_px, rng, about_label=about_label))
    return stack(drawn)


Crop = tuple[Tensor, Tensor, Tensor]
"""Pixels `(t, t)`, boxes `(m, 3)` and background `(t, t)` of one tile."""


def crop(image: LabelledImage, tile_px: int, rng: np.random.Generator, *, about_label: bool = False) -> Crop:
    """One crop at a random place, which shows a label if asked to, in one of the eight ways in
    which it can lie.
    """
    height, width = image.data.shape
    y0, x0 = rng.integers(height - tile_px + 1), rng.integers(width - tile_px + 1)
    if about_label:
        x, y = np.rint(image.boxes[rng.integers(len(image.boxes)), :2]) - rng.integers(tile_px, size=2)
        y0, x0 = np.clip(y, 0, height - tile_px), np.clip(x, 0, width - tile_px)
    return _turned(image, int(y0), int(x0), tile_px, rng.random(3) < 0.5)


def stack(drawn: Sequence[Crop]) -> Tiles:
    """One batch of crops of the same size."""
    data, boxes, background = zip(*drawn, strict=True)
    return Tiles(torch.stack(data)[:, None], list(boxes), torch.stack(background))


def at_least_a_tile(image: LabelledImage, tile_px: int) -> LabelledImage:
    """The image mirrored on at its far borders up to the size of a tile; what the mirror shows says
    nothing.
    """
    missing = [(0, max(0, tile_px - n)) for n in image.data.shape]
    data = np.pad(image.data, missing, mode="symmetric")
    return LabelledImage(data, image.boxes, np.pad(image.background, missing))


def join(cropped: Tiles, simulated: Tiles) -> Tiles:
    """One batch of both."""
    assert cropped.background is not None
    assert simulated.background is not None
    return Tiles(
        torch.cat((cropped.images, simulated.images)),
        cropped.boxes + simulated.boxes,
        torch.cat((cropped.background, simulated.background)),
    )


def _turned(image: LabelledImage, y0: int, x0: int, tile_px: int, turn: NDArray[np.bool_]) -> Crop:
    transposed, left_right, up_down = turn
    here = (slice(y0, y0 + tile_px), slice(x0, x0 + tile_px))
    boxes = image.boxes - np.array([x0, y0, 0], np.float32)
    boxes = boxes[((boxes[:, :2] >= -0.5) & (boxes[:, :2] < tile_px - 0.5)).all(axis=1)]
    if transposed:
        boxes = boxes[:, [1, 0, 2]]
    for axis, flipped in enumerate((left_right, up_down)):
        if flipped:
            boxes[:, axis] = tile_px - 1 - boxes[:, axis]

    def lay(pixels: FloatArray) -> Tensor:
        tile = pixels[here].T if transposed else pixels[here]
        return torch.from_numpy(tile[:: -1 if up_down else 1, :: -1 if left_right else 1].copy())

    return lay(image.data), torch.from_numpy(boxes), lay(image.background)
