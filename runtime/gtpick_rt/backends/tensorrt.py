"""TensorRT and TensorRT-RTX: an engine in half precision, built for this GPU and proved, and the
loop that runs it.

Two lanes, each a stream of the GPU, take the batches in turn: while one computes, the other's tiles
are copied in, of whatever was submitted next. All buffers are made once for each size of batch, and
belong to their slot.
"""

import logging
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gtpick_rt.backends.base import Answers, Tiles
from gtpick_rt.backends.batching import OutOfMemoryError, halved, split
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.libraries import LibraryName
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.backends.engines.running import Loaded, Size, Slot, Tensor
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

_LANES = 2
_LOG = logging.getLogger("gtpick_rt")


class TensorRt:
    """An engine of TensorRT or TensorRT-RTX, which share one programming interface.

    After a BackendError it is done.
    """

    on_cpu = False
    _loaded: Any = None

    def __init__(self, name: LibraryName) -> None:
        self.name = f"{name}-fp16"
        self._library = name
        self._sizes: tuple[int, ...] = PROFILE.batches
        self._streams: list[Any] = []
        self._slots: dict[tuple[int, int], Slot] = {}
        self._in_flight: deque[tuple[int, Slot, _Submitted, slice]] = deque()

    def load(self, plan: bytes, spec: ModelSpec, kernels: bytes = b"") -> None:
        """Make ready to run a plan; see `Loaded.of`."""
        self._loaded, self._spec = Loaded.of(self._library, plan, kernels), spec
        self._cuda: Cuda = self._loaded.cuda
        self.name = f"{self._library}-fp16 on {self._cuda.gpus()[0].name}"
        for _ in range(_LANES):
            self._streams.append(self._cuda.stream())

    @property
    def kernels(self) -> bytes:
        """What was compiled so far; see `Loaded.kernels`."""
        return bytes(self._loaded.kernels)

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> "_Submitted":
        """Give tiles to the GPU in batches, as fast as lanes are free; see `Backend.submit`.

        Batches are halved while memory is too small.
        """
        queries = self._spec.queries
        n, begun = len(tiles), 0
        submitted = _Submitted(np.empty((n, queries), np.float32), np.empty((n, queries, 3), np.float32))
        while begun < n:
            part, size = next(split(n - begun, self._sizes))
            part = slice(begun, begun + part.stop)
            if len(self._in_flight) == _LANES:
                self._land()
            try:
                lane = self._free_lane()
                slot = self._slot(lane, size)
                # the rest of the batch stays as it is, and its answers are not read
                tiles.cut(part, slot.hosts[self._spec.input_name])
                slot.start()
            except OutOfMemoryError as error:
                self._shrink(error)
            else:
                self._in_flight.append((lane, slot, submitted, part))
                submitted.missing += 1
                begun = part.stop
        return submitted

    def collect(self, submitted: "_Submitted") -> Answers:
        """Wait for the answers to what was submitted; see `Backend.collect`."""
        while submitted.missing:
            self._land()
        return submitted.scores, submitted.boxes

    def warm(self) -> None:
        """Make batches of all sizes ready, so that too small a memory shows before anything is
        picked.
        """
        while True:
            try:
                for lane in range(_LANES):
                    for size in self._sizes:
                        self._slot(lane, size)
                return
            except OutOfMemoryError as error:
                self._shrink(error)

    def _shrink(self, error: OutOfMemoryError) -> None:
        """Do without the largest batches from now on. Raises BackendError when there are no
        others.
        """
        while self._in_flight:  # what is given back may be in use
            self._land()
        sizes = halved(self._sizes, error)
        self._drop(self._sizes[-1])
        self._sizes = sizes

    def _free_lane(self) -> int:
        taken = [lane for lane, *_ in self._in_flight]
        return next(lane for lane in range(_LANES) if lane not in taken)

    def _land(self) -> None:
        """Wait for the batch that was begun first."""
        _, slot, submitted, part = self._in_flight.popleft()
        answers, n = slot.finish(), part.stop - part.start
        submitted.scores[part] = answers[self._spec.score_name][:n]
        submitted.boxes[part] = answers[self._spec.box_name][:n]
        submitted.missing -= 1

    def _slot(self, lane: int, size: int) -> Slot:
        if (lane, size) not in self._slots:
            self._slots[lane, size] = Slot(self._loaded, self._streams[lane], self._batch(size))
        return self._slots[lane, size]

    def _batch(self, size: int) -> Size:
        spec = self._spec
        return Size(
            f"in batches of {size}",
            PROFILE.number(size),
            given={spec.input_name: Tensor((size, 1, spec.tile_px, spec.tile_px))},
            answered={
                spec.score_name: Tensor((size, spec.queries)),
                spec.box_name: Tensor((size, spec.queries, 3)),
            },
        )

    def _drop(self, *sizes: int) -> None:
        """Give back what batches of these sizes hold."""
        for key in [key for key in self._slots if key[1] in sizes]:
            self._slots.pop(key).close()

    def close(self) -> None:
        """Give back all that it holds of the GPU: slots, streams, then the engine; see
        `Backend.close`.
        """
        with suppress(BackendError), ExitStack() as owned:  # a GPU that was lost takes nothing back
            while self._streams:
                owned.callback(self._cuda.free_stream, self._streams.pop())
            while self._slots:
                owned.callback(self._slots.popitem()[1].close)
        self._in_flight.clear()
        self._loaded = None


@dataclass(eq=False)
class _Submitted:
    """Tiles that were submitted, and the answers as far as they are there."""

    scores: FloatArray
    boxes: FloatArray
    missing: int = 0
    """Batches in flight."""
