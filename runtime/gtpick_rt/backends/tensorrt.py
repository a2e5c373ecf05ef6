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
from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits, library, logger
from gtpick_rt.backends.engines.running import Loaded, Slot, compiled_kernels
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

_LANES = 2
_LOG = logging.getLogger("gtpick_rt")


class UnloadableError(BackendError):
    """The library does not take this engine."""


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
        self._in_flight: deque[tuple[Slot, _Submitted, slice]] = deque()

    @garbage_waits()
    def load(self, plan: bytes, spec: ModelSpec, kernels: bytes = b"") -> None:
        """Make ready to run a plan, which is code: it must have been built here.

        `kernels` are those that an earlier process told. Raises UnloadableError when the library
        does not take the plan, and BackendError.
        """
        trt = library(self._library)
        log = logger(trt)
        log.taken()  # of what was done before
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            raise UnloadableError(f"{self._library} cannot load its engine: {log.taken()}; see gtpick-rt doctor")
        self._cuda = Cuda()
        self.name = f"{self._library}-fp16 on {self._cuda.gpus()[0].name}"
        for _ in range(_LANES):
            self._streams.append(self._cuda.stream())
        self._loaded = Loaded(self._library, trt, log, engine, self._cuda, spec, compiled_kernels(trt, engine, kernels))

    @property
    def kernels(self) -> bytes:
        """What TensorRT-RTX has compiled so far; empty with TensorRT, which compiles all when it
        builds.
        """
        loaded = self._loaded
        return b"" if loaded.compiled is None else bytes(loaded.check(loaded.compiled.serialize(), "its runtime cache"))

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> "_Submitted":
        """Give tiles to the GPU in batches, as fast as lanes are free; see `Backend.submit`.

        Batches are halved while memory is too small.
        """
        queries = self._loaded.spec.queries
        n, begun = len(tiles), 0
        submitted = _Submitted(np.empty((n, queries), np.float32), np.empty((n, queries, 3), np.float32))
        while begun < n:
            part, size = next(split(n - begun, self._sizes))
            part = slice(begun, begun + part.stop)
            if len(self._in_flight) == _LANES:
                self._land()
            try:
                slot = self._slot(self._free_lane(), size)
                slot.start(tiles, part)
            except OutOfMemoryError as error:
                self._shrink(error)
            else:
                self._in_flight.append((slot, submitted, part))
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
        taken = [slot.lane for slot, _, _ in self._in_flight]
        return next(lane for lane in range(_LANES) if lane not in taken)

    def _land(self) -> None:
        """Wait for the batch that was begun first."""
        slot, submitted, part = self._in_flight.popleft()
        submitted.scores[part], submitted.boxes[part] = slot.finish(part.stop - part.start)
        submitted.missing -= 1

    def _slot(self, lane: int, size: int) -> Slot:
        if (lane, size) not in self._slots:
            self._slots[lane, size] = Slot(self._loaded, lane, self._streams[lane], size)
        return self._slots[lane, size]

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
