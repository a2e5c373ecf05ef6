"""Merging leaves the best of each crowd, whatever the order of its input."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gtpick_rt.detection.merge import merge
from gtpick_rt.types import Picks

FRACTION = 0.5


@st.composite
def crowds(draw: st.DrawFn) -> Picks:
    """Picks on a coarse lattice of places, sizes and scores, so that ties and near misses are
    common.
    """
    n = draw(st.integers(0, 40))
    xy = draw(arrays(np.int64, (n, 2), elements=st.integers(0, 12)))
    diameter = draw(arrays(np.int64, n, elements=st.integers(1, 8)))
    score = draw(arrays(np.int64, n, elements=st.integers(0, 4)))
    return Picks(xy.astype(np.float32), diameter.astype(np.float32), (score / 4).astype(np.float32))


def assert_same(a: Picks, b: Picks) -> None:
    np.testing.assert_array_equal(a.xy_px, b.xy_px)
    np.testing.assert_array_equal(a.diameter_px, b.diameter_px)
    np.testing.assert_array_equal(a.score, b.score)


def too_close(a: Picks, b: Picks) -> NDArray[np.bool_]:
    distance = np.hypot(*np.moveaxis(a.xy_px[:, None] - b.xy_px[None], 2, 0))
    return np.asarray(distance < FRACTION * (a.diameter_px[:, None] + b.diameter_px[None]) / 2)


@given(crowds())
def test_merging_twice_changes_nothing(picks: Picks) -> None:
    once = merge(picks, FRACTION)
    assert_same(merge(once, FRACTION), once)


@given(crowds(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(picks: Picks, random: Random) -> None:
    order = list(range(len(picks)))
    random.shuffle(order)
    assert_same(merge(picks[np.array(order, np.intp)], FRACTION), merge(picks, FRACTION))


@given(crowds())
def test_no_two_survivors_are_too_close(picks: Picks) -> None:
    merged = merge(picks, FRACTION)
    assert not np.triu(too_close(merged, merged), 1).any()


@given(crowds())
def test_whatever_was_dropped_has_a_survivor_at_least_as_good_beside_it(picks: Picks) -> None:
    merged = merge(picks, FRACTION)
    better = merged.score[None] >= picks.score[:, None]
    assert (too_close(picks, merged) & better).any(axis=1).all()


@given(crowds())
def test_the_best_come_first(picks: Picks) -> None:
    assert (np.diff(merge(picks, FRACTION).score) <= 0).all()


def test_of_a_chain_the_ends_survive_a_better_middle_does_not_let_them() -> None:
    xy = np.array([[0, 0], [4, 0], [8, 0]], np.float32)
    diameter = np.full(3, 10, np.float32)
    ends_better = merge(Picks(xy, diameter, np.array([0.8, 0.5, 0.7], np.float32)), FRACTION)
    middle_better = merge(Picks(xy, diameter, np.array([0.5, 0.8, 0.7], np.float32)), FRACTION)
    np.testing.assert_array_equal(ends_better.xy_px[:, 0], [0, 8])
    np.testing.assert_array_equal(middle_better.xy_px[:, 0], [4])


@pytest.mark.parametrize(("distance", "left"), [(5.9, 1), (6.0, 2)])
def test_the_limit_is_the_fraction_of_the_mean_diameter(distance: float, left: int) -> None:
    xy = np.array([[3, 7], [3, 7 + distance]], np.float32)
    picks = Picks(xy, np.array([4, 20], np.float32), np.array([0.9, 0.8], np.float32))
    assert len(merge(picks, FRACTION)) == left
