"""Grouped one-to-many assignment: in each group by itself, one to one, and the cheapest."""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch

from gtpick_model import assignment
from gtpick_model.assignment import assign
from gtpick_model.heads import Detections

MakeDetections = Callable[[list[list[float]], list[float]], Detections]
GROUPS, PER_GROUP = 3, 5


@pytest.fixture
def crowd() -> Detections:
    """Two tiles with three groups of five queries each, anywhere."""
    boxes = torch.rand(2, GROUPS * PER_GROUP, 3) * 60 + 2
    return Detections(torch.randn(2, GROUPS * PER_GROUP), boxes)


def particles(*counts: int) -> list[torch.Tensor]:
    return [torch.rand(n, 3) * torch.tensor([60.0, 60.0, 20.0]) + torch.tensor([0.0, 0.0, 10.0]) for n in counts]


def test_every_particle_gets_one_query_of_every_group(crowd: Detections) -> None:
    found = assign(crowd, particles(4, 2), GROUPS)
    for tile, count in enumerate((4, 2)):
        here = found.tile == tile
        assert len(found.query[here].unique()) == here.sum() == GROUPS * count
        for group in range(GROUPS):
            members = here & (found.query // PER_GROUP == group)
            assert sorted(found.particle[members].tolist()) == list(range(count))


def test_each_group_has_the_cheapest_of_all_assignments(crowd: Detections) -> None:
    targets = particles(3, 4)
    found = assign(crowd, targets, GROUPS)
    for tile, target in enumerate(targets):
        cost = assignment._cost(crowd.logits[tile], crowd.boxes[tile], target)
        for group in range(GROUPS):
            members = (found.tile == tile) & (found.query // PER_GROUP == group)
            got = float(cost[found.query[members], found.particle[members]].sum())
            block = cost[group * PER_GROUP : (group + 1) * PER_GROUP]
            columns = torch.arange(len(target))
            best = min(float(block[list(rows), columns].sum()) for rows in permutations(range(PER_GROUP), len(target)))
            assert got == pytest.approx(best, abs=1e-5)


def test_tiles_without_particles_are_left_alone(crowd: Detections) -> None:
    nothing = assign(crowd, particles(0, 0), GROUPS)
    assert [len(v) for v in nothing] == [0, 0, 0]
    assert all(v.dtype == torch.long for v in nothing)
    assert set(assign(crowd, particles(0, 2), GROUPS).tile.tolist()) == {1}


def test_indices_lead_to_the_right_query_and_particle(detections: MakeDetections) -> None:
    far = [0.0, 0.0, 20.0]
    boxes = [far, [50.0, 10.0, 20.0], [10.0, 50.0, 20.0], [11.0, 49.0, 20.0], far, [50.0, 11.0, 20.0]]
    target = torch.tensor([[10.0, 50.0, 20.0], [50.0, 10.0, 20.0]])
    found = assign(detections(boxes, [0.0] * 6), [target], groups=2)
    assert set(zip(found.query.tolist(), found.particle.tolist(), strict=True)) == {(2, 0), (1, 1), (3, 0), (5, 1)}


@pytest.mark.parametrize(
    ("other", "logit"),
    [([30.0, 30.0, 20.0], -2.0), ([34.0, 30.0, 20.0], 0.0), ([30.0, 34.0, 20.0], 0.0), ([30.0, 30.0, 30.0], 0.0)],
    ids=["less sure", "off in x", "off in y", "too large"],
)
def test_a_worse_query_loses_the_particle(detections: MakeDetections, other: list[float], logit: float) -> None:
    target = [torch.tensor([[30.0, 30.0, 20.0]])]
    found = assign(detections([other, [30.0, 30.0, 20.0]], [logit, 0.0]), target, groups=1)
    assert found.query.tolist() == [1]


def test_distance_counts_in_diameters() -> None:
    logits = torch.zeros(1)
    costs = [
        float(assignment._cost(logits, torch.tensor([[s, 0.0, s]]), torch.tensor([[0.0, 0.0, s]])))
        for s in (10.0, 30.0)
    ]
    assert costs[0] == pytest.approx(costs[1])
