"""Values are what they promise, or cannot be made."""

from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.types import Micrograph, Picks


@pytest.mark.parametrize(
    ("data", "pixel", "reason"),
    [
        (np.zeros((4, 4)), 1.0, "float32"),
        (np.zeros((4, 4, 1), np.float32), 1.0, "shape"),
        (np.zeros((0, 4), np.float32), 1.0, "shape"),
        (np.zeros((4, 4), np.float32), 0.0, "pixel size"),
        (np.zeros((4, 4), np.float32), np.nan, "pixel size"),
        (np.zeros((4, 4), np.float32), np.inf, "pixel size"),
    ],
)
def test_a_micrograph_is_an_image_of_known_scale(data: np.ndarray, pixel: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Micrograph(data, pixel, Path("a.mrc"))


@pytest.mark.parametrize(
    ("xy", "diameter", "score", "reason"),
    [
        ([[1, 2]], [1, 2], [1], "shapes"),
        ([[1, np.nan]], [1], [1], "finite"),
        ([[1, 2]], [np.inf], [1], "finite"),
        ([[1, 2]], [0], [1], "positive"),
        ([[1, 2]], [1], [1.5], r"\[0, 1\]"),
        ([[1, 2]], [1], [-0.5], r"\[0, 1\]"),
        ([[1, 2]], [1], [np.nan], r"\[0, 1\]"),
    ],
)
def test_picks_are_finite_and_scored_from_0_to_1(xy: object, diameter: object, score: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Picks(np.array(xy, np.float32), np.array(diameter, np.float32), np.array(score, np.float32))


def test_picks_are_float32() -> None:
    with pytest.raises(ValueError, match="float32"):
        Picks(np.zeros((1, 2)), np.ones(1, np.float32), np.ones(1, np.float32))
