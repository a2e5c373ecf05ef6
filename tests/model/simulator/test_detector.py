"""Noise, illumination, and what processing does to an image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gtpick_model.simulator.detector import (
    _streaks,
    coloured_noise,
    gaussian_blur,
    gradient,
    prefilter,
    respond,
    smear_borders,
)

SHAPE = (80, 130)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_coloured_noise_has_unit_variance_and_the_slope_asked_for() -> None:
    """Power falls as frequency^-slope, so two octaves apart it differs by 4^slope."""
    shape, slope = (256, 384), 2.0
    noise = coloured_noise(shape, torch.tensor([0.0, slope]), torch.tensor([1.0, 1000.0]), seeded(0))[1]
    assert float(noise.std()) == pytest.approx(1, abs=1e-4)
    frequency = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(384)[None])
    power = torch.fft.rfft2(noise).abs().square()
    low, high = (power[(frequency > f) & (frequency < 1.1 * f)].mean() for f in (0.05, 0.2))
    assert float(low / high) == pytest.approx(4**slope, rel=0.25)


def test_noise_without_a_slope_is_white() -> None:
    noise = coloured_noise(SHAPE, torch.zeros(1), torch.full((1,), 20.0), seeded(0))[0]
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.05


def test_blur_is_gaussian() -> None:
    image = torch.randn(SHAPE, generator=seeded(0))
    expected = gaussian_filter(image.numpy(), 2.5, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(gaussian_blur(image, 2.5).numpy(), expected, atol=1e-4)


def bands(region: Tensor) -> list[int]:
    """Width of the smeared band at the top, bottom, left and right of a region that is a union of
    such bands.
    """
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
    # Outward through a band nothing changes; corners, where two bands cross, are left out.
    rows, columns = (smeared.diff(dim=axis) == 0 for axis in (0, 1))
    inner_x, inner_y = slice(left, SHAPE[1] - right), slice(top, SHAPE[0] - bottom)
    assert rows[: max(top - 1, 0), inner_x].all()
    assert rows[SHAPE[0] - bottom :, inner_x].all()
    assert columns[inner_y, : max(left - 1, 0)].all()
    assert columns[inner_y, SHAPE[1] - right :].all()


def test_streaks_are_as_wide_as_asked_for_and_have_the_contrast_asked_for() -> None:
    line = torch.randn(4096, generator=seeded(0))
    streaks = _streaks(line, 3.0, 2.0)
    assert float(streaks.std()) == pytest.approx(2 * float(line.std()), rel=1e-3)
    expected = gaussian_filter(line.numpy(), 3.0, mode="wrap")
    assert np.corrcoef(streaks.numpy(), expected)[0, 1] > 0.999


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


def test_gradients_are_planes_that_rise_along_x_and_y() -> None:
    planes = gradient(SHAPE, torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    assert planes.shape == (2, *SHAPE)
    torch.testing.assert_close(planes[0, :, -1] - planes[0, :, 0], torch.full((80,), 2.0))
    torch.testing.assert_close(planes[1, -1] - planes[1, 0], torch.full((130,), -4.0))


def test_spectra_fall_at_their_ends_as_often_as_asked() -> None:
    white = torch.randn(200, 96, 96, generator=seeded(0))
    assert torch.equal(respond(np.random.default_rng(0), white, 0.0), white)
    power = torch.fft.rfft2(respond(np.random.default_rng(0), white, 0.5)).abs().square()
    k = torch.hypot(torch.fft.fftfreq(96)[:, None], torch.fft.rfftfreq(96))
    low, middle, high = (power[:, (k > a) & (k < b)].mean(1) for a, b in ((0.005, 0.015), (0.22, 0.25), (0.46, 0.5)))
    assert 0.35 < (high / middle < 0.7).float().mean() < 0.65
    assert 0.35 < (low / middle < 0.5).float().mean() < 0.65
    both = (high / middle < 0.7) & (low / middle < 0.5)
    assert 0.1 < both.float().mean() < 0.4
