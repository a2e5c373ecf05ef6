"""Cover a working image with overlapping tiles, each the owner of its core."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends.base import Tiles
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of `spec.tile_px` working pixels, which may reach beyond the image."""

    y0: int
    """Row of the image that is the tile's row 0; may be negative."""
    x0: int
    """Column of the image that is the tile's column 0; may be negative."""
    core_y: tuple[float, float]
    """Half-open range of y in the image where this tile's detections count."""
    core_x: tuple[float, float]
    """Half-open range of x in the image where this tile's detections count."""


def tile_grid(shape: tuple[int, int], spec: ModelSpec, offset: tuple[int, int] = (0, 0)) -> tuple[Tile, ...]:
    """Tiles, row by row, whose cores partition an image of `(h, w)` pixels.

    `offset` (y, x), at least 0, starts the grid that many pixels above and left of the image.
    Picks must not depend on it.
    """
    return _grid(shape, offset, spec.tile_px, spec.margin_px)


@lru_cache(maxsize=16)  # the micrographs of a run are mostly of one size
def _grid(shape: tuple[int, int], offset: tuple[int, int], tile_px: int, margin_px: int) -> tuple[Tile, ...]:
    rows, columns = (_axis(n, before, tile_px, margin_px) for n, before in zip(shape, offset, strict=True))
    return tuple(Tile(y0, x0, core_y, core_x) for y0, core_y in rows for x0, core_x in columns)


def tiles_of(tiles: Sequence[tuple[FloatArray, Tile]], spec: ModelSpec) -> Tiles:
    """Tiles of `(h, w)` images, each with its own, to be cut out as `(n, 1, tile_px, tile_px)`.

    Beyond its borders the image goes on as in a mirror: in a tile that is partly empty the network,
    which has seen only full ones, scores particles lower.
    """

    def cut(part: slice, batch: FloatArray) -> None:
        for plane, (image, tile) in zip(batch[:, 0], tiles[part], strict=False):
            plane[:] = _square(image, tile.y0, tile.x0, spec.tile_px)

    return Tiles((len(tiles), 1, spec.tile_px, spec.tile_px), cut)


def cut(tiles: Sequence[tuple[FloatArray, Tile]], spec: ModelSpec) -> FloatArray:
    """Do as `tiles_of`, and cut them out."""
    return tiles_of(tiles, spec).array(slice(0, len(tiles)))


def _square(image: FloatArray, y0: int, x0: int, side: int) -> FloatArray:
    height, width = image.shape
    if min(y0, x0) >= 0 and y0 + side <= height and x0 + side <= width:
        return image[y0 : y0 + side, x0 : x0 + side]
    return image[np.ix_(_mirrored(y0, side, height), _mirrored(x0, side, width))]


def _mirrored(start: int, length: int, n: int) -> NDArray[np.intp]:
    """`length` indices from `start` on, folded back at both ends of an axis of `n` pixels."""
    index = np.arange(start, start + length) % (2 * n)
    return np.minimum(index, 2 * n - 1 - index)


def _axis(n: int, before: int, tile_px: int, margin_px: int) -> list[tuple[int, tuple[float, float]]]:
    """First pixel and core of each tile along an axis of `n` pixels, the first tile starting at
    `-before`.

    The last tile ends flush with the image and the others are spread evenly, so that neighbours
    overlap by two margins or more. Cores meet in the middle of the overlap.
    """
    step = tile_px - 2 * margin_px
    first, last = -before, max(n - tile_px, -before)
    count = math.ceil((last - first) / step) + 1
    starts = np.linspace(first, last, count).round().astype(int)
    seams = (starts[:-1] + starts[1:] + tile_px) / 2 - 0.5
    bounds = [-0.5, *seams.tolist(), n - 0.5]
    return list(zip(starts.tolist(), pairwise(bounds), strict=True))
