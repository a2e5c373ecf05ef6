"""Noise, illumination, and what processing does to an image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gtpick_model.simulator.detector import coloured_noise, gaussian_blur, illumination, prefilter, smear_borders

SHAPE = (80, 130)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_coloured_noise_has_unit_variance_and_the_slope_asked_for() -> None:
    """Power falls as frequency^-slope, so two octaves apart it differs by 4^slope."""
    shape, slope = (256, 384), 2.0
    noise = coloured_noise(shape, slope, 1000.0, seeded(0))
    assert float(noise.std()) == pytest.approx(1, abs=1e-4)
    frequency = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(384)[None])
    power = torch.fft.rfft2(noise).abs().square()
    low, high = (power[(frequency > f) & (frequency < 1.1 * f)].mean() for f in (0.05, 0.2))
    assert float(low / high) == pytest.approx(4**slope, rel=0.25)


def test_noise_without_a_slope_is_white() -> None:
    noise = coloured_noise(SHAPE, 0.0, 20.0, seeded(0))
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.05


def test_blur_is_gaussian() -> None:
    image = torch.randn(SHAPE, generator=seeded(0))
    expected = gaussian_filter(image.numpy(), 2.5, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(gaussian_blur(image, 2.5).numpy(), expected, atol=1e-4)


def bands(region: Tensor) -> list[int]:
    """Width of the smeared band at the top, bottom, left and right of a region that is a union of such bands."""
    widths = []
    for full in (region.all(1), region.all(1).flip(0), region.all(0), region.all(0).flip(0)):
        widths.append(int((~full).int().argmax()))
    return widths


@pytest.mark.parametrize("seed", range(12))
def test_smearing_repeats_borders_outward_and_says_where(seed: int) -> None:
    image = torch.randn(SHAPE, generator=seeded(0))
    before = image.clone()
    smeared, region = smear_borders(np.random.default_rng(seed), image, 10.0)
    assert torch.equal(image, before)
    assert smeared.shape == region.shape == SHAPE
    assert torch.equal(smeared[~region], image[~region])
    top, bottom, left, right = bands(region)
    assert top or bottom or left or right
    expected = torch.ones(SHAPE, dtype=torch.bool)
    expected[top : SHAPE[0] - bottom, left : SHAPE[1] - right] = False
    assert torch.equal(region, expected)
    # From a band's first free pixel outward nothing changes any more.
    rows, columns = (smeared.diff(dim=axis) == 0 for axis in (0, 1))
    assert rows[:top].all()
    assert rows[SHAPE[0] - 1 - bottom :].all()
    assert columns[:, :left].all()
    assert columns[:, SHAPE[1] - 1 - right :].all()


def test_every_border_can_be_smeared_alone_and_with_others() -> None:
    image = torch.randn(SHAPE, generator=seeded(0))
    smeared = [
        tuple(width > 0 for width in bands(smear_borders(np.random.default_rng(seed), image, 4.0)[1]))
        for seed in range(60)
    ]
    assert all(any(sides[i] for sides in smeared) for i in range(4))
    assert {sum(sides) for sides in smeared} >= {1, 2}


def test_smearing_leaves_something_of_a_field_of_a_few_particles() -> None:
    image = torch.randn(70, 90, generator=seeded(0))
    for seed in range(60):
        _, region = smear_borders(np.random.default_rng(seed), image, 33.0)
        assert not region.all()


def test_prefiltered_images_keep_particles_darker_than_their_surroundings() -> None:
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(130.0), indexing="ij")
    particle = torch.hypot(x - 90, y - 30) < 8
    for seed in range(30):
        image = 0.3 * torch.randn(SHAPE, generator=seeded(seed)) - 1.0 * particle
        filtered = prefilter(np.random.default_rng(seed), image, 16.0)
        assert filtered.shape == SHAPE
        assert filtered.isfinite().all()
        assert filtered[particle].mean() < filtered[~particle].mean() - 0.5 * filtered.std()


def test_illumination_is_slow() -> None:
    slow = illumination(np.random.default_rng(0), SHAPE, 10.0, seeded(0))
    assert slow.shape == SHAPE
    assert slow.std() > 10 * slow.diff(dim=0).std()
    assert slow.std() > 10 * slow.diff(dim=1).std()
