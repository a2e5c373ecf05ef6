"""Noise, illumination, and what processing does to an image."""

import numpy as np
import pytest
import torch
from gtpick_model.simulator.detector import coloured_noise, gaussian_blur, illumination, prefilter, smear_border
from scipy.ndimage import gaussian_filter

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


@pytest.mark.parametrize("seed", range(8))
def test_smearing_repeats_one_border_and_says_where(seed: int) -> None:
    image = torch.randn(SHAPE, generator=seeded(0))
    smeared, region = smear_border(np.random.default_rng(seed), image, 10.0)
    assert smeared.shape == region.shape == SHAPE
    assert torch.equal(smeared[~region], image[~region])
    full_rows, full_columns = region.all(1), region.all(0)
    assert region.any()
    assert torch.equal(region, full_rows[:, None] | full_columns[None])
    # Along the border's normal nothing changes any more.
    normal = 0 if full_rows.any() else 1
    inside = smeared[full_rows] if normal == 0 else smeared[:, full_columns]
    assert (inside.diff(dim=normal) == 0).all()


def test_every_border_can_be_smeared() -> None:
    image = torch.zeros(SHAPE)
    regions = [smear_border(np.random.default_rng(seed), image, 4.0)[1] for seed in range(40)]
    sides = {(bool(r[0].all()), bool(r[-1].all()), bool(r[:, 0].all()), bool(r[:, -1].all())) for r in regions}
    assert len(sides) == 4


def test_smearing_leaves_something_of_a_field_of_a_few_particles() -> None:
    image = torch.randn(70, 90, generator=seeded(0))
    for seed in range(40):
        _, region = smear_border(np.random.default_rng(seed), image, 33.0)
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
