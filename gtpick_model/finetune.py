"""Fine-tuning: a trained network adapted to the particles that a user marked on a
few micrographs.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.learner import Learner, Pace
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles, make_tiles
from gtpick_rt.types import FloatArray

TILE_PX = 128
SIMULATED = 0.5
"""Share of simulated tiles in a batch: what keeps the network from forgetting all other
specimens."""
PACE = Pace(steps=200, batch=16, learning_rate=5e-4, warm_up=20, ema=0.98)


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


def adapt(
    network: GTPick,
    images: Sequence[LabelledImage],
    library: ViewLibrary,
    on_step: Callable[[int], None],
    pace: Pace,
) -> GTPick:
    """Adapt a copy of `network` to `images`, with simulated particles of `library` between them.

    `on_step(step)` is called after each step. The same network, images and pace give the same
    result.
    """
    learner = Learner(copy.deepcopy(network), pace)
    padded = [_at_least_a_tile(image) for image in images]
    simulated = round(SIMULATED * pace.batch)

    def tiles(step: int) -> Tiles:
        mixed = make_tiles(library, simulated, TILE_PX, network.config, Conditions(), (pace.seed, 3, step))
        return _join(crops(padded, pace.batch - simulated, np.random.default_rng((pace.seed, 4, step))), mixed)

    learner.learn(tiles, lambda loss: on_step(learner.step))
    return learner.average.eval()


def crops(images: Sequence[LabelledImage], count: int, rng: np.random.Generator) -> Tiles:
    """Random crops, flipped and turned; every other one shows a label, for labels can be few."""
    area = np.array([image.data.size for image in images], float)
    labels = np.array([len(image.boxes) for image in images], float)
    drawn = []
    for i in range(count):
        about_label = i % 2 == 0 and labels.sum() > 0
        share = labels if about_label else area
        image = images[rng.choice(len(images), p=share / share.sum())]
        height, width = image.data.shape
        y0, x0 = rng.integers(height - TILE_PX + 1), rng.integers(width - TILE_PX + 1)
        if about_label:
            x, y = np.rint(image.boxes[rng.integers(len(image.boxes)), :2]) - rng.integers(TILE_PX, size=2)
            y0, x0 = np.clip(y, 0, height - TILE_PX), np.clip(x, 0, width - TILE_PX)
        drawn.append(_turned(image, int(y0), int(x0), rng.random(3) < 0.5))
    data, boxes, background = zip(*drawn, strict=True)
    return Tiles(torch.stack(data)[:, None], list(boxes), torch.stack(background))


def _turned(image: LabelledImage, y0: int, x0: int, turn: NDArray[np.bool_]) -> tuple[Tensor, Tensor, Tensor]:
    """One of the eight ways in which the tile at this place can lie: pixels, boxes, background."""
    transposed, left_right, up_down = turn
    here = (slice(y0, y0 + TILE_PX), slice(x0, x0 + TILE_PX))
    boxes = image.boxes - np.array([x0, y0, 0], np.float32)
    boxes = boxes[((boxes[:, :2] >= -0.5) & (boxes[:, :2] < TILE_PX - 0.5)).all(axis=1)]
    if transposed:
        boxes = boxes[:, [1, 0, 2]]
    for axis, flipped in enumerate((left_right, up_down)):
        if flipped:
            boxes[:, axis] = TILE_PX - 1 - boxes[:, axis]

    def lay(pixels: FloatArray) -> Tensor:
        tile = pixels[here].T if transposed else pixels[here]
        return torch.from_numpy(tile[:: -1 if up_down else 1, :: -1 if left_right else 1].copy())

    return lay(image.data), torch.from_numpy(boxes), lay(image.background)


def _at_least_a_tile(image: LabelledImage) -> LabelledImage:
    """The image mirrored on at its far borders up to the size of a tile; what the mirror shows says
    nothing.
    """
    missing = [(0, max(0, TILE_PX - n)) for n in image.data.shape]
    data = np.pad(image.data, missing, mode="symmetric")
    return LabelledImage(data, image.boxes, np.pad(image.background, missing))


def _join(crops: Tiles, simulated: Tiles) -> Tiles:
    """One batch of both; of simulated tiles everything is known."""
    assert crops.background is not None
    known = torch.ones(len(simulated.images), *crops.background.shape[1:])
    return Tiles(
        torch.cat((crops.images, simulated.images)),
        crops.boxes + simulated.boxes,
        torch.cat((crops.background, known)),
    )
