"""What a backend is: the one seam between the runtime and an inference engine."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from gtpick_rt.types import FloatArray

MOST_AT_ONCE = 64
"""Most tiles that are cut out at once: 16 MB."""
Answers = tuple[FloatArray, FloatArray]
"""Scores `(n, queries)` and boxes `(n, queries, 3)`, owned by the caller."""


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles that are cut out only where and when a backend needs them."""

    shape: tuple[int, int, int, int]
    """`(n, 1, tile_px, tile_px)`"""
    cut: Callable[[slice, FloatArray], None]
    """Copies these tiles into the first rows of an array of such tiles; may be called again."""

    @classmethod
    def of(cls, array: FloatArray) -> "Tiles":
        """Tiles that are cut out already."""

        def cut(part: slice, batch: FloatArray) -> None:
            batch[: part.stop - part.start] = array[part]

        n, channels, height, width = array.shape
        return cls((n, channels, height, width), cut)

    def __len__(self) -> int:
        return self.shape[0]

    def array(self, part: slice) -> FloatArray:
        """Cut these out into an array of their own."""
        batch = np.empty((part.stop - part.start, *self.shape[1:]), np.float32)
        self.cut(part, batch)
        return batch


class Backend(Protocol):
    """A model that is loaded and, where it is not the reference, proved. One thread at a time.

    Whoever opened it closes it: `with contextlib.closing(backend)`.
    """

    name: str
    """What runs, for the log: "onnxruntime-cpu"."""

    on_cpu: bool
    """Whether the processor's cores run the network, so that whatever else runs takes time from
    it."""

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles, any n >= 1. Raises BackendError."""
        ...

    def submit(self, tiles: Tiles) -> Any:
        """Begin with so many tiles, at least one; returns what `collect` takes.

        A device goes on with them while others are submitted or collected. Raises BackendError.
        """
        ...

    def collect(self, submitted: Any) -> Answers:
        """Wait for the answers to what was submitted, once for each. Raises BackendError."""
        ...

    def close(self) -> None:
        """Give back all that it holds: of the device, of the host, and its threads.

        Nothing may be inferred afterwards. May be called from any thread, and again.
        """
        ...


class AtOnce:
    """`submit` and `collect` of a backend that works only while somebody waits for it."""

    def infer(self, tiles: FloatArray) -> Answers:
        """Run tiles; see `Backend.infer`."""
        raise NotImplementedError

    def submit(self, tiles: Tiles) -> Tiles:
        """Keep the tiles until they are collected; see `Backend.submit`."""
        return tiles

    def collect(self, submitted: Tiles) -> Answers:
        """Run what was submitted, in as few parts of about the same size as may be; see
        `Backend.collect`.
        """
        n = len(submitted)
        count = -(-n // MOST_AT_ONCE)
        edges = [n * number // count for number in range(count + 1)]
        answers = [self.infer(submitted.array(slice(start, stop))) for start, stop in pairwise(edges)]
        return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])
