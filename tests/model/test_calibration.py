"""Scores become probabilities."""

import numpy as np
import pytest
from scipy.special import expit, logit

from gtpick_model.calibration import fit_calibration
from gtpick_rt.evaluate.curves import Curve


def scored(score: np.ndarray, right: np.ndarray) -> Curve:
    return Curve(score, right, int(right.sum()))


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (1.8, 0.7), (0.6, -1.0)])
def test_a_known_distortion_of_the_scores_is_found(a: float, b: float) -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.02, 0.98, 40_000)
    right = rng.random(len(score)) < expit(a * logit(score) + b)
    assert fit_calibration(scored(score, right)) == pytest.approx((a, b), abs=0.08)


def test_a_calibrated_score_is_the_share_that_is_right() -> None:
    rng = np.random.default_rng(1)
    score = rng.beta(2, 2, 20_000)
    right = rng.random(len(score)) < score**2
    a, b = fit_calibration(scored(score, right))
    calibrated = expit(a * logit(score) + b)
    for low in (0.1, 0.3, 0.5, 0.7):
        within = (calibrated >= low) & (calibrated < low + 0.2)
        assert calibrated[within].mean() == pytest.approx(right[within].mean(), abs=0.05)


@pytest.mark.parametrize("right", [True, False])
def test_scores_stay_as_they_are_where_every_answer_is_the_same(right: bool) -> None:
    assert fit_calibration(scored(np.array([0.2, 0.9]), np.array([right, right]))) == (1.0, 0.0)


def test_scores_of_nought_and_one_do_no_harm() -> None:
    score = np.array([0.0, 0.1, 0.4, 0.6, 1.0, 1.0])
    right = np.array([False, False, True, False, True, True])
    assert np.isfinite(fit_calibration(scored(score, right))).all()
