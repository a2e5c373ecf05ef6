"""Scores of a network on simulated tiles, where it is known what they must be."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gtpick_model.config import ModelConfig
from gtpick_model.heads import Detections
from gtpick_model.metrics import detect, score_tiles
from gtpick_model.network import Outputs
from gtpick_model.tiles import Tiles


class Scripted(nn.Module):
    """Answers every tile with the same detections."""

    def __init__(self, config: ModelConfig, boxes: list[Tensor], logits: list[Tensor]) -> None:
        super().__init__()
        self.config = config
        self.answer = Outputs([Detections(torch.stack(logits), torch.stack(boxes))], None)

    def forward(self, tiles: Tensor) -> Outputs:
        return self.answer


SURE, NEVER = 4.0, -9.0
BOXES = torch.tensor([[10.0, 20.0, 18.0], [40.0, 20.0, 18.0], [50.0, 55.0, 18.0]])


def script(config: ModelConfig, boxes: Tensor, logits: list[float], targets: Tensor = BOXES) -> tuple[Any, list[Tiles]]:
    """A network and one batch of one tile."""
    return Scripted(config, [boxes], [torch.tensor(logits)]), [Tiles(torch.zeros(1, 1, 64, 64), [targets])]


def test_perfect_detections_score_1(config: ModelConfig) -> None:
    curve = score_tiles(*script(config, torch.cat((BOXES, BOXES)), [SURE] * 3 + [NEVER] * 3))
    f1, threshold = curve.best()
    assert f1 == 1
    assert curve.average_precision == 1
    assert threshold == pytest.approx(float(torch.tensor(SURE).sigmoid()))


def test_duplicates_are_merged_before_they_are_judged(config: ModelConfig) -> None:
    near = BOXES + torch.tensor([3.0, 0.0, 0.0])
    assert score_tiles(*script(config, torch.cat((BOXES, near)), [SURE] * 3 + [SURE - 1] * 3)).best()[0] == 1


@pytest.mark.parametrize(("shift", "f1"), [(5.5, 1.0), (6.5, 0.0)])
def test_a_third_of_the_particles_diameter_decides(shift: float, f1: float, config: ModelConfig) -> None:
    moved = BOXES + torch.tensor([0.0, shift, 0.0])
    assert score_tiles(*script(config, moved, [SURE] * 3)).best()[0] == f1


def test_missed_and_invented_particles_count(config: ModelConfig) -> None:
    boxes = torch.cat((BOXES[:2], torch.tensor([[20.0, 50.0, 18.0]])))
    curve = score_tiles(*script(config, boxes, [SURE] * 3))
    assert curve.best()[0] == pytest.approx(2 / 3)


def test_tiles_without_particles_are_judged_too(config: ModelConfig) -> None:
    ((found, particles),) = detect(*script(config, BOXES, [SURE, NEVER, NEVER], torch.zeros(0, 3)))
    assert len(found) == 1
    assert len(particles) == 0


def test_a_network_that_finds_nothing_scores_0(config: ModelConfig) -> None:
    curve = score_tiles(*script(config, BOXES, [NEVER] * 3))
    assert curve.best()[0] == 0
    assert curve.average_precision == 0


def test_what_is_detected_where_nothing_is_known_does_not_count(config: ModelConfig) -> None:
    invented = torch.tensor([[20.0, 50.0, 18.0]])
    network, (tiles,) = script(config, torch.cat((BOXES, invented)), [SURE] * 4)
    background = torch.ones(1, 64, 64)
    assert score_tiles(network, [tiles._replace(background=background)]).best()[0] == pytest.approx(6 / 7)
    background[0, 45:56, 15:26] = 0
    background[0, 15:26, 5:16] = 0  # about one that is to find, which counts all the same
    found = score_tiles(network, [tiles._replace(background=background)])
    assert found.best()[0] == 1
    assert found.right.sum() == 3
