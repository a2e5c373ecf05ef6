"""Fine-tuning: what is labelled is learned, and what is not known is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gtpick_model.config import ModelConfig
from gtpick_model.finetune import PACE, TILE_PX, adapt
from gtpick_model.labelled import LabelledImage, background_map
from gtpick_model.network import GTPick
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.types import FloatArray

SHAPE = (170, 210)


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
