"""Tiles cover an image of any size, and their cores own each of its points once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gtpick_rt.detection.tile import Tile, cut, tile_grid, tiles_of
from gtpick_rt.models.spec import ModelSpec

on_any_spec = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
lengths = st.integers(1, 1500)
offsets = st.integers(0, 191)


def owners(tiles: list[Tile], x: float, y: float) -> int:
    return sum(t.core_x[0] <= x < t.core_x[1] and t.core_y[0] <= y < t.core_y[1] for t in tiles)


@on_any_spec
@given(data=st.data(), h=lengths, w=lengths, offset=st.tuples(offsets, offsets))
def test_every_point_of_the_image_is_in_exactly_one_core(
    data: st.DataObject, h: int, w: int, offset: tuple[int, int], spec: ModelSpec
) -> None:
    tiles = tile_grid((h, w), spec, offset)
    x = data.draw(st.floats(-0.5, w - 0.5, exclude_max=True))
    y = data.draw(st.floats(-0.5, h - 0.5, exclude_max=True))
    assert owners(tiles, x, y) == 1


@on_any_spec
@given(h=lengths, w=lengths, offset=st.tuples(offsets, offsets))
def test_cores_keep_the_margin_except_at_the_border(h: int, w: int, offset: tuple[int, int], spec: ModelSpec) -> None:
    for tile in tile_grid((h, w), spec, offset):
        for start, core, n in ((tile.x0, tile.core_x, w), (tile.y0, tile.core_y, h)):
            assert core[0] == -0.5 or core[0] >= start + spec.margin_px - 0.5
            assert core[1] == n - 0.5 or core[1] <= start + spec.tile_px - spec.margin_px - 0.5


@on_any_spec
@given(h=st.integers(256, 1500), w=st.integers(256, 1500))
def test_the_grid_is_flush_with_the_image_and_no_larger_than_needed(h: int, w: int, spec: ModelSpec) -> None:
    tiles = tile_grid((h, w), spec)
    assert (min(t.y0 for t in tiles), min(t.x0 for t in tiles)) == (0, 0)
    assert (max(t.y0 for t in tiles), max(t.x0 for t in tiles)) == (h - spec.tile_px, w - spec.tile_px)
    assert len(tiles) == np.prod([-(-(n - 2 * spec.margin_px) // 192) for n in (h, w)])


def test_an_offset_starts_the_grid_before_the_image(spec: ModelSpec) -> None:
    tiles = tile_grid((500, 700), spec, (10, 20))
    assert (tiles[0].y0, tiles[0].x0) == (-10, -20)
    assert tiles[0].core_y[0] == tiles[0].core_x[0] == -0.5


def test_a_tile_holds_the_pixels_that_its_origin_says(spec: ModelSpec) -> None:
    image = np.arange(500 * 700, dtype=np.float32).reshape(500, 700)
    tiles = tile_grid((500, 700), spec)
    batch = cut([(image, tile) for tile in tiles], spec)
    assert batch.shape == (len(tiles), 1, 256, 256)
    for plane, tile in zip(batch[:, 0], tiles, strict=True):
        np.testing.assert_array_equal(plane, image[tile.y0 : tile.y0 + 256, tile.x0 : tile.x0 + 256])


@pytest.mark.parametrize(("y0", "x0"), [(-3, 5), (4, -300), (-2, -1), (300, 0)])
def test_beyond_its_borders_the_image_goes_on_as_in_a_mirror(y0: int, x0: int, spec: ModelSpec) -> None:
    image = np.random.default_rng(0).normal(size=(100, 280)).astype(np.float32)
    whole = (-0.5, 279.5)
    (plane,) = cut([(image, Tile(y0, x0, whole, whole))], spec)[:, 0]
    endless = np.pad(image, 600, mode="symmetric")
    np.testing.assert_array_equal(plane, endless[y0 + 600 : y0 + 856, x0 + 600 : x0 + 856])


def test_tiles_are_cut_into_the_first_rows_of_a_buffer_and_touch_no_other(spec: ModelSpec) -> None:
    image = np.random.default_rng(0).normal(size=(500, 700)).astype(np.float32)
    small = image[:100, :280].copy()
    grid = [(image, tile) for tile in tile_grid(image.shape, spec)] + [(small, tile_grid(small.shape, spec)[0])]
    tiles, buffer = tiles_of(grid, spec), np.full((6, 1, 256, 256), -7, np.float32)
    tiles.cut(slice(len(grid) - 3, len(grid)), buffer)
    np.testing.assert_array_equal(buffer[:3], cut(grid, spec)[-3:])
    assert (buffer[3:] == -7).all()


def test_without_a_margin_tiles_abut(spec: ModelSpec) -> None:
    tiles = tile_grid((256, 512), replace(spec, margin_px=0))
    assert [t.core_x for t in tiles] == [(-0.5, 255.5), (255.5, 511.5)]
