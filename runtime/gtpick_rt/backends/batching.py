"""Batches of a few sizes: a GPU runs without delay what was prepared for one size."""

from collections.abc import Iterator

from gtpick_rt.errors import BackendError


class OutOfMemoryError(BackendError):
    """The GPU's memory does not hold what a batch needs."""


def split(n: int, sizes: tuple[int, ...]) -> Iterator[tuple[slice, int]]:
    """Divide `n` tiles into batches of these `sizes`, which grow from 1: which tiles, and the size
    of their batch.

    The tiles may be fewer than the size, but not less than half of it.
    """
    start = 0
    while (left := n - start) > 0:
        size = next((each for each in sizes if each >= left), sizes[-1])
        if 2 * left < size:
            size = max(each for each in sizes if each <= left)
        stop = min(n, start + size)
        yield slice(start, stop), size
        start = stop


def halved(sizes: tuple[int, ...], error: OutOfMemoryError) -> tuple[int, ...]:
    """The sizes to go on with when the memory does not hold the largest.

    Raises BackendError at a batch of one.
    """
    *smaller, largest = sizes
    if largest == 1:
        raise BackendError(
            f"{error}, even for a single tile: end what else uses the GPU, or pick with --backend cpu"
        ) from error
    return tuple(sorted({*smaller, largest // 2}))
