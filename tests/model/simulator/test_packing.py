"""Packings keep their distance, stay on the field and never hold more than was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from gtpick_model.simulator.packing import pack


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(20, 150), st.integers(20, 150)),
    separation=st.floats(2, 40),
    count=st.integers(0, 60),
    clustering=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_points_lie_on_the_field_apart_and_no_more_than_asked(
    seed: int, shape: tuple[int, int], separation: float, count: int, clustering: float
) -> None:
    points = pack(np.random.default_rng(seed), shape, separation, count, clustering)
    assert points.shape == (len(points), 2)
    assert len(points) <= count
    assert (points >= -0.5).all()
    assert (points < (shape[1] - 0.5, shape[0] - 0.5)).all()
    assert len(points) < 2 or pdist(points).min() >= separation


def test_a_sparse_packing_has_all_points_and_fills_a_wide_field() -> None:
    points = pack(np.random.default_rng(0), (50, 400), 2.0, 100)
    assert len(points) == 100
    assert np.ptp(points, axis=0) == pytest.approx([400, 50], rel=0.15)


def test_clustered_points_have_closer_neighbours() -> None:
    def mean_nearest(clustering: float) -> float:
        points = pack(np.random.default_rng(0), (500, 500), 4.0, 100, clustering)
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(distance, np.inf)
        return float(distance.min(1).mean())

    assert mean_nearest(0.9) < 0.6 * mean_nearest(0.0)


def test_the_same_seed_packs_alike() -> None:
    same, again, other = (pack(np.random.default_rng(seed), (80, 90), 5.0, 30) for seed in (1, 1, 2))
    assert np.array_equal(same, again)
    assert not np.array_equal(same[:5], other[:5])
