"""Tiles are divided into batches of the sizes that there are, none of which is mostly empty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.backends.batching import OutOfMemoryError, halved, split
from gtpick_rt.errors import BackendError

SIZES = st.sets(st.integers(2, 64), max_size=3).map(lambda sizes: (1, *sorted(sizes)))


@given(st.integers(0, 300), SIZES)
def test_every_tile_is_in_one_batch_and_no_batch_is_less_than_half_full(n: int, sizes: tuple[int, ...]) -> None:
    parts = list(split(n, sizes))
    assert [index for part, _ in parts for index in range(part.start, part.stop)] == list(range(n))
    for part, size in parts:
        assert size in sizes
        assert size <= 2 * (part.stop - part.start) <= 2 * size


@pytest.mark.parametrize(
    ("n", "batches"),
    [(1, [1]), (3, [1, 1, 1]), (4, [8]), (8, [8]), (9, [8, 1]), (16, [32]), (36, [32, 8]), (64, [32, 32])],
)
def test_few_batches_are_made(n: int, batches: list[int]) -> None:
    assert [size for _, size in split(n, (1, 8, 32))] == batches


@given(SIZES)
def test_halving_ends_at_one_tile(sizes: tuple[int, ...]) -> None:
    error = OutOfMemoryError("too small")
    while sizes[-1] > 1:
        smaller = halved(sizes, error)
        assert smaller[0] == 1
        assert max(smaller) < max(sizes)
        assert list(smaller) == sorted(set(smaller))
        sizes = smaller
    with pytest.raises(BackendError, match="too small, even for a single tile"):
        halved(sizes, error)
