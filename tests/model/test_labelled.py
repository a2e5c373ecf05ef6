"""Labelled images: labels lie where the pixels do, and what is not known is not learned."""

import numpy as np
import pytest
import torch

from gtpick_model.labelled import LabelledImage, at_least_a_tile, background_map, crops

SHAPE = (170, 210)
TILE_PX = 128


def labelled(xy: list[tuple[int, int]], shape: tuple[int, int] = SHAPE) -> LabelledImage:
    """Every pixel differs from all others; the background map is the image, halved."""
    data = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape) / (shape[0] * shape[1])
    boxes = np.array([(x, y, 24) for x, y in xy], np.float32).reshape(-1, 3)
    return LabelledImage(data, boxes, data / 2)


def test_the_border_says_nothing() -> None:
    background = background_map((40, 60), 20.0, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    expected = np.zeros((40, 60))
    expected[10:30, 10:50] = 1
    np.testing.assert_array_equal(background, expected)


def test_what_was_perhaps_passed_over_counts_less_as_far_as_it_reaches() -> None:
    places = np.array([[30.0, 40.0], [38.0, 40.0], [1.0, 79.0]], np.float32)
    background = background_map((80, 90), 20.0, places, np.array([0.25, 0.5, 0.0], np.float32))
    row, column = np.indices((80, 90))
    first = (row - 40) ** 2 + (column - 30) ** 2 <= 100
    second = (row - 40) ** 2 + (column - 38) ** 2 <= 100
    inner = (row >= 10) & (row < 70) & (column >= 10) & (column < 80)
    np.testing.assert_array_equal(background, np.where(first, 0.25, np.where(second, 0.5, 1)) * inner)


@pytest.mark.parametrize("seed", range(4))
def test_labels_and_background_lie_where_the_pixels_do(seed: int) -> None:
    image = labelled([(30, 25), (100, 31), (60, 140), (180, 90)])
    tiles = crops([image], 16, TILE_PX, np.random.default_rng(seed))
    assert tiles.background is not None
    assert tiles.images.shape == (16, 1, TILE_PX, TILE_PX)
    torch.testing.assert_close(tiles.background, tiles.images[:, 0] / 2)
    values = {float(image.data[int(y), int(x)]) for x, y, _ in image.boxes}
    seen = 0
    for tile, boxes in zip(tiles.images[:, 0], tiles.boxes, strict=True):
        found = {float(tile[int(y), int(x)]) for x, y, _ in boxes}
        assert found == values & set(tile.flatten().tolist())
        seen += len(found)
    assert seen > 0


def test_crops_lie_in_all_eight_ways() -> None:
    tiles = crops([labelled([])], 64, TILE_PX, np.random.default_rng(0)).images[:, 0]
    steps = {
        (bool(abs(t[1, 0] - t[0, 0]) > abs(t[0, 1] - t[0, 0])), bool(t[-1, 0] > t[0, 0]), bool(t[0, -1] > t[0, 0]))
        for t in tiles
    }
    assert len(steps) == 8


def test_every_other_crop_shows_a_label_however_few_there_are() -> None:
    images = [labelled([], (900, 1100)), labelled([(20, 880)], (900, 1100))]
    tiles = crops(images, 40, TILE_PX, np.random.default_rng(0))
    assert all(len(boxes) == 1 for boxes in tiles.boxes[::2])


def test_an_image_smaller_than_a_tile_is_mirrored_and_the_mirror_says_nothing() -> None:
    image = at_least_a_tile(labelled([(20, 30)], (100, 90)), TILE_PX)
    assert image.data.shape == (TILE_PX, TILE_PX)
    assert image.data[101, 10] == image.data[98, 10]
    assert (image.background[100:] == 0).all()
    assert (image.background[:, 90:] == 0).all()
    np.testing.assert_array_equal(image.background[:100, :90], labelled([], (100, 90)).background)
