"""The robustness benchmark compares like with like: labels go where the pixels go."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, gaussian_filter

from benchmarks.accuracy import robustness
from gtpick_rt.types import FloatArray, Picks

SHAPE = (400, 520)
DOT = (290.0, 150.0)
"""x, y: within every variant."""


@pytest.fixture(autouse=True)
def crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that suits a small image."""
    monkeypatch.setattr(robustness, "CROP", (30, 70, 260, 400))


def micrograph() -> FloatArray:
    """One dark dot on grey."""
    image = np.zeros(SHAPE)
    image[round(DOT[1]), round(DOT[0])] = -1
    blurred = gaussian_filter(image, 6)
    return (blurred / -blurred.min()).astype(np.float32)


def at(xy: list[tuple[float, float]]) -> Picks:
    return Picks(np.array(xy, np.float32).reshape(-1, 2), np.ones(len(xy), np.float32), np.ones(len(xy), np.float32))


@pytest.mark.parametrize("number", range(8))
def test_a_label_stays_on_its_particle(number: int) -> None:
    name, variant = list(robustness.VARIANTS.items())[number]
    changed = np.asarray(variant.change(micrograph()), float)
    strength = np.clip(np.abs(changed) - 0.6, 0, None)
    y, x = center_of_mass(strength)
    (found,) = robustness.moved(at([DOT]), variant, SHAPE).xy_px
    assert np.hypot(*(found - (x, y))) < 0.5, name


def test_every_variant_is_looked_at() -> None:
    assert len(robustness.VARIANTS) == 8
    assert next(iter(robustness.VARIANTS)) == "untouched"


def test_a_turned_image_is_full_of_pixels_and_loses_no_more_than_it_must() -> None:
    turned = robustness.turned(np.ones(SHAPE, np.float32))
    assert turned.shape == robustness.inner(SHAPE)
    assert turned.min() > 0.99
    assert turned.shape[0] > 0.6 * SHAPE[0]


def test_only_whole_circles_count() -> None:
    kept = robustness.whole(at([(4.5, 4.5), (4.4, 20), (50, 24.5), (50, 24.6), (94.5, 10)]), (30, 100), 10)
    assert kept.xy_px.tolist() == [[4.5, 4.5], [50, 24.5], [94.5, 10]]


def test_the_same_picks_lose_nothing_and_missed_ones_do() -> None:
    name, variant = list(robustness.VARIANTS.items())[3]
    assert name == "rotated by 90 degrees"
    labels = {"a": at([(100, 100), (300, 100)]), "b": at([(200, 250)])}
    shapes = [SHAPE, SHAPE[::-1]]
    found = {name: robustness.moved(picks, variant, SHAPE) for name, picks in labels.items()}
    same = robustness.compare(found, labels, labels, variant, shapes)
    assert (same["f1"], same["f1_loss"], same["within_goal"]) == (1, 0, True)
    fewer = robustness.compare({**found, "b": at([])}, labels, labels, variant, shapes)
    assert fewer["f1_loss"] == pytest.approx(0.2)
    assert not fewer["within_goal"]
    assert fewer["f1_per_micrograph"] == {"a": 1, "b": 0}
