"""Training and evaluation tiles: simulated fields, normalised as the runtime does, cropped, with
labels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gtpick_model.config import ModelConfig
from gtpick_model.normalise import normalise
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.procedural import procedural, procedural_name
from gtpick_model.simulator.structures import Structure, files_of, held_out, load_folder, name_of
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_rt.detection.resample import resample

RIM_PX = 32
"""Simulated around a tile and cut off, so that the background at the tile's rim rests on more than
the tile."""
STEP_PX = 16
"""The sides of tiles are multiples of it."""


class Tiles(NamedTuple):
    """Network input with its answers."""

    images: Tensor
    """`(b, 1, t, t)` normalised."""
    boxes: list[Tensor]
    """For each tile `(m, 3)`: x, y and diameter in px, of particles whose centre is on the tile."""
    background: Tensor | None = None
    """`(b, t, t)`: how far, from 0 to 1, a detection there that is no labelled particle counts as
    wrong; None is 1."""

    def to(self, device: torch.device) -> "Tiles":
        """The same on another device."""
        background = None if self.background is None else self.background.to(device)
        return Tiles(self.images.to(device), [boxes.to(device) for boxes in self.boxes], background)


def split_structures(folder: Path | None, procedurals: int, side: int) -> tuple[list[Structure], list[Structure]]:
    """Structures for training and for validation; none is in both.

    Validation, which also chooses threshold and calibration, takes the procedural structures that
    are held out. Those of the folder that are held out are in neither: they are left to be reported
    on.

    Args:
        folder: density maps and atomic models to use beside the procedural structures, or None.
        procedurals: number of procedural structures.
        side: voxels along the canonical cube.
    """
    made = [procedural(i, side) for i in range(procedurals)]
    loaded = list(load_folder(folder, side)) if folder else []
    return [s for s in made + loaded if not held_out(s.name)], [s for s in made if held_out(s.name)]


def training_names(folder: Path | None, procedurals: int) -> list[str]:
    """Names of the structures that `split_structures` gives for training, none of which is made."""
    made = [procedural_name(i) for i in range(procedurals)]
    loaded = [name_of(path) for path in files_of(folder)] if folder else []
    return [name for name in made + loaded if not held_out(name)]


def libraries(
    folder: Path | None, procedurals: int, views: int = 48, side: int = 48
) -> tuple[ViewLibrary, ViewLibrary]:
    """View libraries of `split_structures` for training and for validation, with `views` directions
    per structure.
    """
    train, validation = split_structures(folder, procedurals, side)
    return build_library(train, views, seed=1), build_library(validation, views, seed=2)


class Backgrounds(NamedTuple):
    """Real images to lay particles on."""

    images: Tensor
    """`(n, side, side)`, of robust standard deviation 1."""
    background: Tensor
    """`(n, side, side)`: as in `Tiles`, for what is on them already."""


def make_tiles(
    library: ViewLibrary,
    count: int,
    tile_px: int,
    config: ModelConfig,
    conditions: Conditions,
    seed: tuple[int, ...],
    device: torch.device | None = None,
    backgrounds: Backgrounds | None = None,
    zoom: float = 1.0,
) -> Tiles:
    """Simulate `count` tiles of `tile_px`; the same seed gives the same tiles, on a GPU up to
    rounding.

    `backgrounds`, with a rim of `RIM_PX` around the tile, are those of the first n of them. With a
    `zoom` below 1 the same tiles are made smaller, as picking does with micrographs, to a multiple
    of 16 px.
    """
    side = tile_px + 2 * RIM_PX
    laid_on = None if backgrounds is None else backgrounds.images
    fields = simulate(library, count, (side, side), conditions, seed, device, backgrounds=laid_on)
    seen, boxes, doubtful = fields.images, fields.boxes, fields.doubtful
    if zoom != 1:
        seen, boxes, doubtful = _smaller(seen, zoom), _moved(boxes, zoom), _moved(doubtful, zoom)
    background = torch.stack([clear_of(seen.shape[1], each) for each in doubtful])
    if backgrounds is not None:
        n = len(backgrounds.images)
        background[:n] = background[:n].minimum(backgrounds.background.to(background.device))
    kept_px = int(tile_px * zoom) // STEP_PX * STEP_PX
    rim = (seen.shape[1] - kept_px) // 2
    here = slice(rim, rim + kept_px)
    images = normalise(seen, config.highpass_px, config.clip)[:, None, here, here]
    on_it = [box - box.new_tensor([rim, rim, 0]) for box in boxes]
    on_it = [box[((box[:, :2] >= -0.5) & (box[:, :2] < kept_px - 0.5)).all(1)] for box in on_it]
    return Tiles(images.contiguous(), on_it, background[:, here, here].contiguous())


def _smaller(images: Tensor, zoom: float) -> Tensor:
    shape = (round(images.shape[1] * zoom), round(images.shape[2] * zoom))
    resampled = np.stack([resample(image, shape) for image in images.cpu().numpy()])
    return torch.from_numpy(resampled).to(images.device)


def _moved(boxes: list[Tensor], zoom: float) -> list[Tensor]:
    """Boxes where they lie on images so many times as large."""
    corners = [box.new_tensor([0.5, 0.5, 0.0]) for box in boxes]
    return [(box + corner) * zoom - corner for box, corner in zip(boxes, corners, strict=True)]


def clear_of(side_px: int, boxes: Tensor) -> Tensor:
    """A map `(side, side)` of ones, with zeros inside the circles of boxes."""
    axis = torch.arange(side_px, device=boxes.device)
    x, y, diameter = boxes.T[:, :, None, None]
    inside = (axis - x) ** 2 + (axis[:, None] - y) ** 2 <= (diameter / 2) ** 2
    return 1 - inside.any(0).float()


def at(background: Tensor, boxes: Tensor) -> Tensor:
    """Values `(B, Q)` of maps `(B, t, t)` at the centres of boxes `(B, Q, 3)`; beyond the border,
    at the border.
    """
    column, row = boxes.detach()[..., :2].round().long().clamp(0, background.shape[-1] - 1).unbind(-1)
    tile = torch.arange(len(boxes), device=boxes.device)[:, None]
    return background[tile, row, column]
