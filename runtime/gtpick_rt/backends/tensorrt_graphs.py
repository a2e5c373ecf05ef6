"""The preprocessing graphs as engines of TensorRT or TensorRT-RTX, beside the network's.

Two lanes, each a stream of the GPU, serve whichever thread has a micrograph: while one computes,
the other's pixels are copied in. The matrices of a size stay on the GPU, with the buffers, context
and CUDA graph of the slot that is made when the size is met. Each lane keeps the two sizes that it
met last: that of a data set, and that of the sample.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.libraries import LibraryName
from gtpick_rt.backends.engines.profiles import SIDES
from gtpick_rt.backends.engines.running import Loaded, Size, Slot, Tensor
from gtpick_rt.backends.graphs import Matrices, Side
from gtpick_rt.errors import BackendError
from gtpick_rt.types import FloatArray

LANES = 2
_KEPT = 2
"""Sizes of each lane: memory does not grow with the number of sizes."""
_Key = tuple[str, Side, Side]


class TensorRtGraphs:
    """The graphs that are loaded, by the pixels that they take, for several threads at a time.

    After a BackendError it is to be closed.
    """

    def __init__(self, name: LibraryName) -> None:
        self._library, self._closed = name, False
        self._loaded: dict[str, Loaded] = {}
        self._lanes: list[_Lane] = []
        self._idle: list[_Lane] = []
        self._free = threading.Condition()
        self._making = threading.Lock()  # contexts of one engine are made one after the other

    def load(self, pixels: str, plan: bytes, kernels: bytes = b"") -> None:
        """Make ready to run the plan for such pixels; see `Loaded.of`."""
        self._loaded[pixels] = loaded = Loaded.of(self._library, plan, kernels)
        while len(self._lanes) < LANES:
            self._lanes.append(_Lane(loaded.cuda))
        self._idle = list(self._lanes)

    def kernels(self, pixels: str) -> bytes:
        """What was compiled so far; see `Loaded.kernels`."""
        return self._loaded[pixels].kernels

    def leaves(self, before: Side, after: Side) -> str:
        """Why such images are left to the processor; see `Graphs.leaves`."""
        if SIDES.takes(before, after):
            return ""
        (height, width), (h, w) = before, after
        return f"{width} x {height} px, {w} x {h} px at working scale: the engine takes {SIDES}"

    def run(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> dict[str, FloatArray]:
        """Prepare an image; see `Graphs.run`."""
        key = (str(image.dtype), (image.shape[0], image.shape[1]), shape)
        with self._lane(key) as lane:
            slot = self._slot(lane, key, matrices)
            np.copyto(slot.hosts["image"], image)
            slot.start()
            return {name: answer.copy() for name, answer in slot.finish().items()}

    def warm(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> None:
        """Make all lanes ready for such images; see `Graphs.warm`."""
        key = (str(image.dtype), (image.shape[0], image.shape[1]), shape)
        with ExitStack() as taken:
            for _ in range(LANES):
                self._slot(taken.enter_context(self._lane(key)), key, matrices)

    @contextmanager
    def _lane(self, key: _Key) -> Iterator["_Lane"]:
        """A lane that nobody else uses meanwhile, of those that are free the one that knows the
        size.
        """
        with self._free:
            self._free.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise BackendError(f"{self._library} prepares nothing any more")
            lane = next((each for each in self._idle if key in each.slots), self._idle[0])
            self._idle.remove(lane)
        try:
            yield lane
        finally:
            with self._free:
                self._idle.append(lane)
                self._free.notify_all()

    def _slot(self, lane: "_Lane", key: _Key, matrices: Matrices) -> Slot:
        slot = lane.slots.pop(key, None)
        if slot is None:
            with self._making:
                lane.drop(_KEPT - 1)
                slot = Slot(self._loaded[key[0]], lane.stream, _size(key, matrices(*key[1:])))
        lane.slots[key] = slot
        return slot

    def close(self) -> None:
        """Give back all that it holds of the GPU, once what is in flight has landed; see
        `Graphs.close`.
        """
        with self._free:
            first, self._closed = not self._closed, True
            self._free.notify_all()
            if first:
                self._free.wait_for(lambda: len(self._idle) == len(self._lanes))
                with suppress(BackendError), ExitStack() as owned:  # a GPU that was lost takes nothing back
                    for lane in self._idle:
                        owned.callback(lane.close)
                self._loaded.clear()


class _Lane:
    """A stream, and what was made on it."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self.stream = cuda, cuda.stream()
        self.slots: dict[_Key, Slot] = {}
        """The one used last is the last."""

    def drop(self, most: int) -> None:
        """Keep so many slots."""
        while len(self.slots) > most:
            self.slots.pop(next(iter(self.slots))).close()

    def close(self) -> None:
        with ExitStack() as owned:
            owned.callback(self._cuda.free_stream, self.stream)
            while self.slots:
                owned.callback(self.slots.popitem()[1].close)


def _size(key: _Key, matrices: dict[str, FloatArray]) -> Size:
    pixels, (height, width), shape = key
    coarse = len(matrices["cells_down"]), matrices["cells_across"].shape[1]
    return Size(
        f"for micrographs of {width} x {height} px",
        profile=0,
        given={"image": Tensor((height, width), pixels)},
        answered={"data": Tensor(shape), "coarse": Tensor(coarse), "sigma": Tensor(()), "plain": Tensor(())},
        kept=matrices,
    )
