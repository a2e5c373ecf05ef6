"""Junk covers the region that it forbids, and lies anywhere on a field that is not square."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gtpick_model.simulator.junk import (
    KINDS,
    Junk,
    carbon,
    contamination,
    crystalline_ice,
    filaments,
    gold,
    mottled_ice,
    smooth_noise,
)

SHAPE = (80, 130)
KIND = pytest.mark.parametrize("kind", [kind for kind, _ in KINDS], ids=lambda kind: kind.__name__)
Kind = Callable[..., Junk]


def make(kind: Kind, seed: int, shape: tuple[int, int] = SHAPE) -> Junk:
    return kind(np.random.default_rng(seed), shape, 16.0, torch.Generator().manual_seed(seed))


@KIND
def test_junk_fits_the_field_and_is_reproducible(kind: Kind) -> None:
    for seed in range(10):
        density, region = make(kind, seed)
        assert density.shape == region.shape == SHAPE
        assert region.dtype == torch.bool
        assert density.isfinite().all()
        assert torch.equal(density, make(kind, seed).density)


@pytest.mark.parametrize("kind", [carbon, gold, contamination, filaments])
def test_what_is_dense_is_forbidden(kind: Kind) -> None:
    forbidden = 0
    for seed in range(20):
        density, region = make(kind, seed)
        forbidden += int(region.any())
        assert region[density > 0.6 * max(float(density.max()), 1.0)].all()
    assert forbidden > 10


def test_particles_stay_visible_in_crystalline_ice() -> None:
    density, region = make(crystalline_ice, 0)
    assert density.abs().max() > 0.05
    assert not region.any()


def test_blotches_of_ice_are_not_to_be_picked() -> None:
    for seed in range(5):
        density, region = make(mottled_ice, seed, (128, 128))
        assert region.float().mean() > 0.1
        inside = density[region] - density[region].mean()
        assert inside.std() > 0.5


@KIND
def test_junk_is_found_everywhere_on_a_wide_field(kind: Kind) -> None:
    seen = torch.zeros(SHAPE, dtype=torch.bool)
    for seed in range(60):
        density, _ = make(kind, seed)
        seen |= density.abs() > 0.2
    assert seen[:, :20].any()
    assert seen[:, 110:].any()
    assert seen[60:].any()
    assert seen[:20].any()


def test_gold_is_much_denser_than_protein() -> None:
    for seed in range(5):
        density, region = make(gold, seed)
        assert density.max() > 5
        assert region.float().mean() < 0.6


def test_smooth_noise_has_unit_variance_and_no_detail() -> None:
    field = smooth_noise((200, 300), 20.0, torch.Generator().manual_seed(0))
    assert float(field.std()) == pytest.approx(1, abs=1e-4)
    assert field.diff(dim=0).std() < 0.3
    assert field.diff(dim=1).std() < 0.3
