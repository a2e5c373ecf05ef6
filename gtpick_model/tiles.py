"""Training and evaluation tiles: simulated fields, normalised as the runtime does, cropped, with
labels.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gtpick_model.config import ModelConfig
from gtpick_model.normalise import normalise
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.procedural import procedural, procedural_name
from gtpick_model.simulator.structures import Structure, files_of, held_out, load_folder, name_of
from gtpick_model.simulator.views import ViewLibrary, build_library

RIM_PX = 32
"""Simulated around a tile and cut off, so that the background at the tile's rim rests on more than
the tile."""


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


def make_tiles(
    library: ViewLibrary,
    count: int,
    tile_px: int,
    config: ModelConfig,
    conditions: Conditions,
    seed: tuple[int, ...],
    device: torch.device | None = None,
    backgrounds: Tensor | None = None,
) -> Tiles:
    """Simulate `count` tiles of `tile_px`; the same seed gives the same tiles, on a GPU up to
    rounding.

    `backgrounds`, `(n, side, side)` with a rim of `RIM_PX` around the tile, are real images for the
    first n of them.
    """
    side = tile_px + 2 * RIM_PX
    fields = simulate(library, count, (side, side), conditions, seed, device, backgrounds=backgrounds)
    images = normalise(fields.images, config.highpass_px, config.clip)[:, None, RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
    boxes = []
    for box in fields.boxes:
        moved = box - box.new_tensor([RIM_PX, RIM_PX, 0])
        boxes.append(moved[((moved[:, :2] >= -0.5) & (moved[:, :2] < tile_px - 0.5)).all(1)])
    return Tiles(images.contiguous(), boxes)
