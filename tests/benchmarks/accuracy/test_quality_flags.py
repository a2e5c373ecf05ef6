"""What the benchmark of the flags takes for the truth, and how it counts."""

import numpy as np
import pytest
import torch

from benchmarks.accuracy import quality_flags
from gtpick_model.simulator.field import Fields
from gtpick_model.simulator.junk import Junk
from gtpick_model.simulator.optics import Optics
from gtpick_rt.types import Picks


def fields(boxes: torch.Tensor) -> Fields:
    nothing = torch.zeros(0)
    return Fields(nothing, [boxes], [], [], nothing, nothing, Optics(*[nothing] * 8), [])


def thing(shape: tuple[int, int], width: int, density: float = 2) -> Junk:
    """Something at the left of the field, up to this column."""
    region = torch.zeros(shape, dtype=torch.bool)
    region[:, :width] = True
    return Junk(density * region, region)


@pytest.mark.parametrize(
    ("particles", "recall", "kind", "width", "expected"),
    [
        (100, 0.9, "", 0, set()),
        (0, 1, "", 0, {"empty"}),
        (409, 0.9, "", 0, set()),
        (410, 0.9, "", 0, {"crowded"}),  # of 819 squares of the diameter
        (100, 0.59, "", 0, {"low contrast"}),
        (100, 0.9, "carbon", 96, set()),  # 60 columns of it are in the rim; 840 are not
        (100, 0.9, "carbon", 110, {"carbon edge"}),
        (0, 1, "carbon", 960, {"empty"}),
        (100, 0.9, "contamination", 60, set()),
        (100, 0.9, "contamination", 70, {"ice"}),
        (100, 0.9, "gold", 500, set()),
    ],
)
def test_the_truth_follows_from_what_was_drawn(
    particles: int, recall: float, kind: str, width: int, expected: set[str]
) -> None:
    laid = [(kind, thing(quality_flags.SHAPE, width))] if kind else []
    assert quality_flags.truth(fields(torch.zeros(particles, 3)), laid, recall) == expected


def test_particles_cut_by_the_border_need_not_be_found() -> None:
    """Counted from the corner of the first pixel, 14.5 px of pixel centres are a radius of 15
    px."""
    cut = [[14.4, 100, 30], [400, 752.6, 30]]
    whole = [[14.5, 300, 30], [600, 752.4, 30], [300, 300, 30]]
    picks = Picks(np.array([[14, 307], [607, 752]], np.float32), np.full(2, 30, np.float32), np.ones(2, np.float32))
    assert quality_flags.found(fields(torch.tensor(cut + whole)), picks) == pytest.approx(2 / 3)
    assert quality_flags.found(fields(torch.zeros(0, 3)), Picks.empty()) == 1


def test_crystalline_ice_is_measured_by_the_envelope_of_its_wave() -> None:
    wave = 0.4 * torch.sin(torch.arange(quality_flags.SHAPE[1]) * 1.6)
    patch = thing(quality_flags.SHAPE, 200, 1)
    covered = quality_flags.covered("crystalline_ice", Junk(patch.density * wave, patch.region))
    assert covered[:, :120].mean() > 0.9
    assert not covered[:, 180:].any()


def test_every_field_that_counts_is_in_one_cell_of_the_confusion_table() -> None:
    def judged(scene: str, truth: str, *flags: str) -> object:
        return quality_flags.Judged(scene, frozenset([truth] if truth else []), frozenset(flags), (1.0, 0.1))

    every = [
        judged("no particles", "empty", "empty"),
        judged("no particles", "empty"),
        judged("clean", "", "empty"),
        *(judged("clean", "") for _ in range(3)),
        judged("faint", "low contrast", "empty"),
        judged("faint", "low contrast", "low contrast"),
    ]
    empty = quality_flags.rates(every, "empty")
    cells = ("true positives", "false negatives", "false positives", "true negatives")
    assert [empty[cell] for cell in cells] == [1, 1, 1, 3]
    assert (empty["true-positive rate"], empty["false-positive rate"]) == (0.5, 0.25)
    faint = quality_flags.rates(every, "low contrast")
    assert [faint[cell] for cell in cells] == [1, 0, 0, 3]
    assert quality_flags.rates(every, "ice")["true-positive rate"] is None
