"""Focal loss, matching cost and box loss against numbers worked out by hand; the set loss over a
whole answer.
"""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log

import pytest
import torch

from gtpick_model.config import ModelConfig
from gtpick_model.criterion import set_loss, total_loss
from gtpick_model.heads import Detections
from gtpick_model.losses import box_loss, focal_cost, sigmoid_focal, weighted_cross_entropy
from gtpick_model.network import Outputs

MakeDetections = Callable[[list[list[float]], list[float]], Detections]


@pytest.mark.parametrize(
    ("logit", "positive", "expected"),
    [
        (0.0, 1.0, 0.25 * 0.5**2 * log(2)),
        (0.0, 0.0, 0.75 * 0.5**2 * log(2)),
        (log(3), 1.0, 0.25 * 0.25**2 * -log(0.75)),
        (log(3), 0.0, 0.75 * 0.75**2 * -log(0.25)),
    ],
)
def test_focal_loss_by_hand(logit: float, positive: float, expected: float) -> None:
    assert float(sigmoid_focal(torch.tensor(logit), torch.tensor(positive))) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_weighs_negatives_down() -> None:
    loss = weighted_cross_entropy(torch.tensor([log(3), log(3)]), torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([-log(0.75), -0.1 * log(0.25)], rel=1e-5)


def test_a_surer_query_costs_the_matching_less() -> None:
    cost = focal_cost(torch.linspace(-8, 8, 100))
    assert (cost.diff() < 0).all()


def test_a_perfect_box_costs_nothing() -> None:
    boxes = torch.tensor([[3.0, 4.0, 20.0], [50.0, 6.0, 11.0]])
    assert box_loss(boxes, boxes) == 0


def test_box_loss_by_hand() -> None:
    boxes = torch.tensor([[12.0, 30.0, 20.0 * exp(0.5)], [7.0, 7.0, 10.0]])
    target = torch.tensor([[10.0, 35.0, 20.0], [7.0, 7.0, 10.0]])
    assert float(box_loss(boxes, target)) == pytest.approx(2 * (2 + 5) / 20 + 0.5, rel=1e-5)


def test_the_set_loss_of_one_particle_by_hand(detections: MakeDetections, config: ModelConfig) -> None:
    found = detections([[10.0, 40.0, 20.0], [14.0, 10.0, 20.0]], [0.0, 0.0])
    target = [torch.tensor([[10.0, 10.0, 20.0]])]
    focal = 0.25 * 0.25 * log(2) + 0.75 * 0.25 * log(2)
    assert float(set_loss(found, target, 1, config)) == pytest.approx(2 * focal + 2 * 4 / 20, rel=1e-5)


def test_the_set_loss_looks_up_particles_in_their_own_tile(config: ModelConfig) -> None:
    """Perfect boxes in the second and third of three tiles: only the class is left to learn."""
    targets = [
        torch.zeros(0, 3),
        torch.tensor([[40.0, 8.0, 20.0], [9.0, 50.0, 20.0]]),
        torch.tensor([[20.0, 30.0, 15.0]]),
    ]
    boxes = torch.full((3, 4, 3), 20.0)
    boxes[1, 3], boxes[1, 0], boxes[2, 2] = targets[1][0], targets[1][1], targets[2][0]
    sure = torch.full((3, 4), -30.0)
    sure[1, 3] = sure[1, 0] = sure[2, 2] = 30.0
    assert float(set_loss(Detections(sure, boxes), targets, 1, config)) == pytest.approx(0, abs=1e-5)
    boxes[2, 2, 0] += 15
    assert float(set_loss(Detections(sure, boxes), targets, 1, config)) == pytest.approx(2 / 3, rel=1e-4)


def test_the_set_loss_does_not_grow_with_groups_or_tiles(config: ModelConfig) -> None:
    found = Detections(torch.randn(1, 4), torch.rand(1, 4, 3) * 40 + 5)
    target = torch.rand(3, 3) * 40 + 5
    one = set_loss(found, [target], 1, config)
    grouped = Detections(found.logits.repeat(1, 2), found.boxes.repeat(1, 2, 1))
    batched = Detections(found.logits.repeat(2, 1), found.boxes.repeat(2, 1, 1))
    torch.testing.assert_close(set_loss(grouped, [target], 2, config), one)
    torch.testing.assert_close(set_loss(batched, [target, target], 1, config), one)


def test_without_particles_the_loss_only_asks_for_low_scores(config: ModelConfig) -> None:
    logits = torch.zeros(2, 6, requires_grad=True)
    boxes = torch.full((2, 6, 3), 9.0)
    loss = set_loss(Detections(logits, boxes), [torch.zeros(0, 3)] * 2, 3, config)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert (gradient > 0).all()


def test_a_wrong_detection_counts_as_far_as_its_place_is_background(
    detections: MakeDetections, config: ModelConfig
) -> None:
    """The second query is wrong, at column 14 of row 6; the first has the particle, on a place that
    says nothing.
    """
    found = detections([[10.0, 10.0, 20.0], [14.4, 5.6, 20.0]], [0.0, 0.0])
    target = [torch.tensor([[10.0, 10.0, 20.0]])]
    background = torch.zeros(1, 24, 32)
    background[0, 6, 14] = 0.5
    focal = 0.25 * 0.25 * log(2) + 0.5 * 0.75 * 0.25 * log(2)
    assert float(set_loss(found, target, 1, config, background)) == pytest.approx(2 * focal, rel=1e-5)
    everywhere = set_loss(found, target, 1, config, torch.ones_like(background))
    torch.testing.assert_close(everywhere, set_loss(found, target, 1, config))


def test_a_detection_beyond_the_border_is_judged_by_the_border(detections: MakeDetections, config: ModelConfig) -> None:
    background = torch.zeros(1, 24, 32)
    background[0, 0, 31] = 1.0
    found = detections([[50.0, -7.0, 20.0], [-50.0, -7.0, 20.0]], [0.0, 0.0])
    loss = set_loss(found, [torch.zeros(0, 3)], 1, config, background)
    assert float(loss) == pytest.approx(2 * 0.75 * 0.25 * log(2), rel=1e-5)


def test_the_classification_option_chooses_the_loss(detections: MakeDetections, config: ModelConfig) -> None:
    found = detections([[5.0, 5.0, 20.0]], [0.0])
    nothing = [torch.zeros(0, 3)]
    assert float(set_loss(found, nothing, 1, config)) == pytest.approx(2 * 0.75 * 0.25 * log(2))
    plain = replace(config, classification="cross_entropy")
    assert float(set_loss(found, nothing, 1, plain)) == pytest.approx(2 * 0.1 * log(2))


def test_the_total_sums_all_layers_and_the_proposals(config: ModelConfig) -> None:
    target = [torch.tensor([[20.0, 30.0, 15.0]])]
    layers = [Detections(torch.randn(1, 6), torch.rand(1, 6, 3) * 40 + 5) for _ in range(2)]
    proposals = Detections(torch.randn(1, 9), torch.rand(1, 9, 3) * 40 + 5)
    decoder = set_loss(layers[0], target, 3, config) + set_loss(layers[1], target, 3, config)
    torch.testing.assert_close(total_loss(Outputs(layers, None), target, config), decoder)
    both = decoder + set_loss(proposals, target, 1, config)
    torch.testing.assert_close(total_loss(Outputs(layers, proposals), target, config), both)
