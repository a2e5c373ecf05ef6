"""The threshold of a data set follows from its scores where these are probabilities."""

import numpy as np
import pytest

from gtpick_rt.detection.threshold import ENOUGH, WORTH, expect

Rng = np.random.Generator
OWN = 0.7
"""The model's threshold, which suits none of these sets."""


def drawn(rng: Rng, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a data set, and which of them are particles: as often as the scores say."""
    score = rng.beta(a, b, 40_000)
    return score, rng.random(len(score)) < score


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.3), (0.5, 0.9), (1.5, 1.5), (0.3, 0.3)])
def test_the_threshold_gives_the_best_f1_and_is_half_of_it(a: float, b: float) -> None:
    score, right = drawn(np.random.default_rng(0), a, b)
    expected = expect(score, OWN)

    def f1(threshold: float) -> float:
        taken = score >= threshold
        return float(2 * right[taken].sum() / (taken.sum() + right.sum()))

    assert f1(expected.threshold) == pytest.approx(max(f1(t) for t in np.linspace(0.02, 0.98, 49)), abs=0.003)
    assert expected.f1 == pytest.approx(f1(expected.threshold), abs=0.02)
    assert expected.threshold == pytest.approx(expected.f1 / 2, abs=0.01)
    assert expected.particles == pytest.approx(right.sum(), rel=0.03)


def test_faint_particles_get_a_lower_threshold_than_clear_ones() -> None:
    rng = np.random.default_rng(1)
    clear, faint = expect(rng.beta(0.6, 0.2, 5000), OWN), expect(rng.beta(1.2, 1.2, 5000), OWN)
    assert faint.threshold < clear.threshold - 0.05
    assert faint.holds


def test_scores_of_what_is_surely_no_particle_give_no_threshold() -> None:
    scores = np.random.default_rng(2).beta(0.8, 6, 5000)
    assert expect(scores, OWN).particles > ENOUGH
    assert not expect(scores, OWN).holds


@pytest.mark.parametrize("scores", [np.zeros(0), np.full(ENOUGH // 2, 0.9)])
def test_too_few_detections_give_no_threshold(scores: np.ndarray) -> None:
    assert not expect(scores, OWN).holds


def test_the_models_own_threshold_stays_where_another_gains_little() -> None:
    scores = np.random.default_rng(3).beta(0.6, 0.3, 5000)
    best = expect(scores, OWN)
    near, far = expect(scores, best.threshold + 0.01), expect(scores, best.threshold + 0.3)
    assert best.f1 == near.f1 == far.f1
    assert best.f1 - WORTH < near.own_f1 < best.f1
    assert not near.holds
    assert far.own_f1 < best.f1 - WORTH
    assert far.holds
