"""Training normalises images as the runtime does: the one place where the two are written twice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from gtpick_model.normalise import background, normalise
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph


def uneven(shape: tuple[int, int], seed: int) -> FloatArray:
    """Noise on a gradient, with a few very bright pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = rng.normal(500, 20, shape) + 0.3 * x - 0.2 * y
    image[rng.random(shape) < 0.002] += 1000
    return image.astype(np.float32)


@pytest.mark.parametrize("shape", [(192, 192), (150, 211), (60, 300), (301, 55)])
def test_both_normalisations_agree(shape: tuple[int, int], spec: ModelSpec) -> None:
    images = [uneven(shape, seed) for seed in (0, 1)]
    at_scale = [to_working_scale(Micrograph(image, 1.0, Path("x.mrc")), spec.diameter_px, spec) for image in images]
    trained = normalise(torch.from_numpy(np.stack(images)), spec.highpass_px, spec.clip).numpy()
    for mine, runtimes in zip(trained, at_scale, strict=True):
        assert runtimes.data.shape == shape
        # An even number of pixels has two medians; torch takes the lower one, numpy their mean.
        np.testing.assert_allclose(mine, runtimes.data, atol=1e-3)
    assert trained.max() == spec.clip


@pytest.mark.parametrize("width", [3, 9, 97])
def test_the_background_is_scipys_box_taken_twice(width: int) -> None:
    image = uneven((40, 70), 0)
    expected = uniform_filter(uniform_filter(image.astype(np.float64), width, mode="reflect"), width, mode="reflect")
    np.testing.assert_allclose(background(torch.from_numpy(image)[None], width)[0].numpy(), expected, rtol=1e-5)


def test_each_image_of_a_batch_is_normalised_by_itself() -> None:
    images = torch.stack([torch.randn(60, 80), 50 * torch.randn(60, 80) + 900])
    together = normalise(images, 31, 6.0)
    for i in range(2):
        torch.testing.assert_close(together[i], normalise(images[i : i + 1], 31, 6.0)[0])
        assert float(together[i].median()) == pytest.approx(0, abs=1e-3)
        assert 1.4826 * float(together[i].abs().median()) == pytest.approx(1, abs=1e-3)
