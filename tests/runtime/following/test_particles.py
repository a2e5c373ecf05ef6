"""Particles by score are those of the detections, cut out where they lie."""

import io
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtpick_rt.following import particles
from gtpick_rt.following.history import History
from gtpick_rt.following.particles import CELL_PX, COLUMNS, ROWS, particle_groups, radial_profile
from gtpick_rt.output.layout import preview_path
from gtpick_rt.types import Picks

SCORES = np.array([0.9, 0.8, 0.5, 0.45, 0.3, 0.2], np.float32)
X = np.array([40, 100, 160, 220, 280, 3], np.float32)
"""In a picture of 300 x 200 pixels; the last reaches over the border."""


@pytest.fixture
def history(told: Any) -> History:
    """Two micrographs, with dark discs of 24 px at all detections but the two faintest."""
    rows, columns = np.indices((200, 300))
    grey = np.full((200, 300), 160, np.uint8)
    for x in X[:4]:
        grey[np.hypot(columns - x, rows - 100) < 12] = 40
    jpeg = io.BytesIO()
    Image.fromarray(grey).save(jpeg, "JPEG", quality=95)
    xy = np.stack([X, np.full(6, 100)], axis=1).astype(np.float32)
    told.begun()
    for stem in "ab":
        preview = preview_path(told.out, PurePosixPath(stem))
        preview.parent.mkdir(parents=True, exist_ok=True)
        preview.write_bytes(jpeg.getvalue())
        told.picked(stem, Picks(xy, np.full(6, 24, np.float32), SCORES))
    found = History(told.out)
    found.catch_up()
    return found


def test_groups_hold_the_best_those_at_the_threshold_and_those_below(history: History) -> None:
    best, at, below = particle_groups(history, history.entries, 0.4, 48.0)
    assert [group.count for group in (best, at, below)] == [8, 8, 2]
    assert (best.high, at.low, below.high, below.low) == pytest.approx((0.9, 0.45, 0.3, 0.3), abs=1e-3)
    assert best.profile[0] < -100 < -20 < min(below.profile)
    with Image.open(io.BytesIO(best.sheet)) as sheet:
        assert sheet.size == (CELL_PX * (ROWS + COLUMNS), CELL_PX * ROWS)


def test_the_best_come_first_and_those_nearest_to_the_threshold_in_theirs(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(particles, "_MOST_MEAN", 2)
    best, at, below = particle_groups(history, history.entries, 0.4, 48.0)
    assert (best.low, best.high) == pytest.approx((0.9, 0.9), abs=1e-3)
    assert (at.low, at.high) == pytest.approx((0.45, 0.45), abs=1e-3)
    assert (below.low, below.high) == pytest.approx((0.3, 0.3), abs=1e-3)


def test_what_is_missing_or_damaged_is_left_out(history: History) -> None:
    assert particle_groups(history, history.entries, 0.4, None) == []
    preview_path(history.out, PurePosixPath("a")).write_bytes(b"nothing")
    assert particle_groups(history, history.entries, 0.4, 48.0)[0].count == 4
    preview_path(history.out, PurePosixPath("b")).unlink()
    assert particle_groups(history, history.entries, 0.4, 48.0) == []


def test_a_profile_is_the_mean_over_rings_less_the_outermost() -> None:
    rows, columns = np.indices((48, 48)) - 23.5
    profile = radial_profile(np.where(np.hypot(rows, columns) < 10, 3.0, 5.0))
    assert len(profile) == 24
    assert (profile[0], profile[5], profile[15], profile[-1]) == (-2.0, -2.0, 0.0, 0.0)


def test_of_few_particles_the_best_are_not_those_at_the_threshold(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(particles, "COLUMNS", 1)
    best, at, _ = particle_groups(history, history.entries, 0.4, 48.0)
    assert (best.count, at.count) == (2, 2)  # a third of eight
    assert at.high < best.low
