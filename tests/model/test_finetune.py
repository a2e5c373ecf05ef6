"""Fine-tuning: labels lie where the pixels do, and what is not known is not learned."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gtpick_model import finetune
from gtpick_model.config import ModelConfig
from gtpick_model.finetune import PACE, TILE_PX, LabelledImage, adapt, background_map, crops
from gtpick_model.network import GTPick
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.types import FloatArray

SHAPE = (170, 210)


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
    tiles = crops([image], 16, np.random.default_rng(seed))
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
    tiles = crops([labelled([])], 64, np.random.default_rng(0)).images[:, 0]
    steps = {
        (bool(abs(t[1, 0] - t[0, 0]) > abs(t[0, 1] - t[0, 0])), bool(t[-1, 0] > t[0, 0]), bool(t[0, -1] > t[0, 0]))
        for t in tiles
    }
    assert len(steps) == 8


def test_every_other_crop_shows_a_label_however_few_there_are() -> None:
    images = [labelled([], (900, 1100)), labelled([(20, 880)], (900, 1100))]
    tiles = crops(images, 40, np.random.default_rng(0))
    assert all(len(boxes) == 1 for boxes in tiles.boxes[::2])


def test_an_image_smaller_than_a_tile_is_mirrored_and_the_mirror_says_nothing() -> None:
    image = finetune._at_least_a_tile(labelled([(20, 30)], (100, 90)))
    assert image.data.shape == (TILE_PX, TILE_PX)
    assert image.data[101, 10] == image.data[98, 10]
    assert (image.background[100:] == 0).all()
    assert (image.background[:, 90:] == 0).all()
    np.testing.assert_array_equal(image.background[:100, :90], labelled([], (100, 90)).background)


@pytest.fixture
def network(config: ModelConfig) -> GTPick:
    return GTPick(config).eval()


def dots(rng: np.random.Generator) -> LabelledImage:
    """Dark squares on noise."""
    xy = np.stack(np.meshgrid(np.arange(24, 200, 40), np.arange(24, 160, 40)), axis=-1).reshape(-1, 2)
    data = rng.normal(0, 0.3, SHAPE).astype(np.float32)
    for x, y in xy:
        data[y - 8 : y + 8, x - 8 : x + 8] -= 4
    boxes = np.column_stack((xy, np.full(len(xy), 20))).astype(np.float32)
    return LabelledImage(data, boxes, np.ones(SHAPE, np.float32))


Adapt = Callable[..., GTPick]


@pytest.fixture
def quickly(library: ViewLibrary) -> Adapt:
    def run(network: GTPick, image: LabelledImage, steps: int) -> GTPick:
        pace = replace(PACE, steps=steps, batch=4, learning_rate=3e-3, warm_up=2, ema=0.9)
        return adapt(network, [image], library, lambda step: None, pace)

    return run


def test_fine_tuning_leaves_the_starting_network_and_repeats_itself(network: GTPick, quickly: Adapt) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = dots(np.random.default_rng(0))
    one, other = (quickly(network, image, 2).state_dict() for _ in range(2))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(not torch.equal(value, before[name]) for name, value in one.items())


def score_at(network: GTPick, data: FloatArray, x: float, y: float) -> float:
    """The best score within 8 px of a place."""
    with torch.no_grad():
        answer = network(torch.from_numpy(data[None, None, :TILE_PX, :TILE_PX])).layers[-1]
    near = (answer.boxes[0, :, :2] - torch.tensor([x, y])).norm(dim=1) < 8
    return float(answer.logits[0, near].sigmoid().max()) if near.any() else 0.0


def test_what_is_labelled_is_found_and_what_was_perhaps_passed_over_is_not_unlearned(
    network: GTPick, quickly: Adapt
) -> None:
    """Two squares of many are labelled; the others are learned as background, or are not."""
    whole = dots(np.random.default_rng(0))
    few, others = replace(whole, boxes=whole.boxes[:2]), whole.boxes[2:, :2]
    doubtful = background_map(SHAPE, 20.0, others, np.zeros(len(others), np.float32))
    lenient, strict = (quickly(network, image, 60) for image in (replace(few, background=doubtful), few))
    passed_over = whole.boxes[6, :2]
    assert score_at(lenient, whole.data, *passed_over) > 1.1 * score_at(strict, whole.data, *passed_over)
    assert score_at(lenient, whole.data, *passed_over) > 2 * score_at(lenient, whole.data, 44, 44)
