"""TensorRT and TensorRT-RTX: an engine in half precision, built for this GPU and proved, and the
loop that runs it.

Two lanes, each a stream of the GPU, take the batches in turn: while one computes, the other's tiles
are copied in, of whatever was submitted next. All buffers are made once for each size of batch, and
belong to their slot.
"""

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from gtpick_rt.backends.base import Answers, Tiles
from gtpick_rt.backends.batching import OutOfMemoryError, halved, split
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits, library, logger
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

_LANES = 2


def current_gpu() -> Gpu:
    """The GPU that engines are built for and run on: the first that is visible to the process.

    Raises BackendError.
    """
    return Cuda().gpus()[0]


class TensorRt:
    """An engine of TensorRT or TensorRT-RTX, which share one programming interface.

    After a BackendError it is done.
    """

    on_cpu = False

    def __init__(self, name: LibraryName) -> None:
        self.name = f"{name}-fp16"
        self._library = name
        self._sizes: tuple[int, ...] = PROFILE.batches
        self._streams: list[Any] = []
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._in_flight: deque[tuple[_Slot, _Submitted, slice]] = deque()

    @garbage_waits()
    def load(self, plan: bytes, spec: ModelSpec) -> None:
        """Make ready to run a plan, which is code: it must have been built here.

        Raises BackendError.
        """
        trt = library(self._library)
        log = logger(trt)
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"{self._library} cannot load its engine: {log.told('ERROR')}; see gtpick-rt doctor")
        self._cuda = Cuda()
        self._loaded = _Loaded(self._library, trt, log, engine, self._cuda, spec)
        self._streams = [self._cuda.stream() for _ in range(_LANES)]

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
                while self._in_flight:  # what is given back may be in use
                    self._land()
                sizes = halved(self._sizes, error)
                self._drop(self._sizes[-1])
                self._sizes = sizes
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

    def _free_lane(self) -> int:
        taken = [slot.lane for slot, _, _ in self._in_flight]
        return next(lane for lane in range(_LANES) if lane not in taken)

    def _land(self) -> None:
        """Wait for the batch that was begun first."""
        slot, submitted, part = self._in_flight.popleft()
        submitted.scores[part], submitted.boxes[part] = slot.finish(part.stop - part.start)
        submitted.missing -= 1

    def _slot(self, lane: int, size: int) -> "_Slot":
        if (lane, size) not in self._slots:
            self._slots[lane, size] = _Slot(self._loaded, lane, self._streams[lane], size)
        return self._slots[lane, size]

    def _drop(self, *sizes: int) -> None:
        """Give back what batches of these sizes hold."""
        for key in [key for key in self._slots if key[1] in sizes]:
            self._slots.pop(key).close()

    def close(self) -> None:
        """Give back all that it holds of the GPU."""
        self._drop(*self._sizes)
        while self._streams:
            self._cuda.free_stream(self._streams.pop())


@dataclass(eq=False)
class _Submitted:
    """Tiles that were submitted, and the answers as far as they are there."""

    scores: FloatArray
    boxes: FloatArray
    missing: int = 0
    """Batches in flight."""


@dataclass(frozen=True)
class _Loaded:
    """A deserialized engine, and what is needed to run it."""

    name: LibraryName
    trt: Any
    log: Any
    engine: Any
    cuda: Cuda
    spec: ModelSpec

    @garbage_waits()
    def context(self) -> Any:
        """Make an execution context whose scratch memory is ours to give."""
        trt, strategy = self.trt, self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return self.check(self.engine.create_execution_context(strategy), "an execution context")
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # TensorRT-RTX compiles kernels for a shape when it meets it; a graph that is captured
        # before keeps slower ones.
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return self.check(self.engine.create_execution_context(config), "an execution context")

    def check(self, result: Any, what: str) -> Any:
        """Return a result of the library, which is None or False where it failed.

        Raises BackendError.
        """
        if result is not None and result is not False:
            return result
        told = self.log.told("ERROR")
        if "out of memory" in told.lower() or "OutOfMemory" in told:
            raise OutOfMemoryError(f"the GPU's memory is too small for {what}")
        raise BackendError(f"{self.name} failed at {what}: {told or 'it does not say why'}")


class _Slot:
    """One size of batch on one stream: an execution context, its buffers and its CUDA graph, which
    nothing else uses.

    Between `start` and `finish` the buffers belong to the GPU.
    """

    def __init__(self, loaded: _Loaded, lane: int, stream: Any, size: int) -> None:
        spec, cuda = loaded.spec, loaded.cuda
        self.lane = lane
        self._loaded, self._stream, self._size = loaded, stream, size
        self._hosts: dict[str, FloatArray] = {}
        self._addresses: dict[str, int] = {}
        with ExitStack() as owned:
            self._context = loaded.context()
            number = PROFILE.number(size)
            self._check(self._context.set_optimization_profile_async(number, int(stream)), "its optimisation profile")
            tile = (size, 1, spec.tile_px, spec.tile_px)
            self._check(self._context.set_input_shape(spec.input_name, tile), f"the shape of {spec.input_name!r}")
            self._give(owned, spec.input_name, tile)
            self._give(owned, spec.score_name, (size, spec.queries))
            self._give(owned, spec.box_name, (size, spec.queries, 3))
            self._give_scratch(owned)
            owned.callback(cuda.synchronize, stream)  # before anything is given back
            self._enqueue()  # the first run of a shape allocates, which a capture cannot
            cuda.synchronize(stream)
            self._graph = cuda.capture(stream, self._enqueue)
            owned.callback(cuda.free_graph, self._graph)
            self._owned = owned.pop_all()

    def start(self, tiles: Tiles, part: slice) -> None:
        """Give up to `size` tiles to the GPU, cut straight into its buffer.

        The rest of the batch stays as it is, and its answers are not read.
        """
        tiles.cut(part, self._hosts[self._loaded.spec.input_name])
        self._loaded.cuda.launch(self._graph, self._stream)

    def finish(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Wait, and return views of the scores and boxes of the first `n` tiles, which hold until
        the next `start`.
        """
        spec = self._loaded.spec
        self._loaded.cuda.synchronize(self._stream)
        return self._hosts[spec.score_name][:n], self._hosts[spec.box_name][:n]

    def close(self) -> None:
        """Give everything back, once what is in flight has landed."""
        self._loaded.cuda.synchronize(self._stream)
        del self._context
        self._hosts.clear()
        self._owned.close()

    def _check(self, result: Any, what: str) -> None:
        self._loaded.check(result, f"{what} in batches of {self._size}")

    def _give(self, owned: ExitStack, name: str, shape: tuple[int, ...]) -> None:
        """Make the buffers of a tensor, and tell the context where it lies on the GPU."""
        cuda, what = self._loaded.cuda, f"tensor {name!r} of {self._size} tiles"
        host = self._hosts[name] = cuda.pinned(what, shape)
        owned.callback(cuda.free_pinned, host)
        address = self._addresses[name] = cuda.memory(what, host.nbytes)
        owned.callback(cuda.free, address)
        self._check(self._context.set_tensor_address(name, address), f"the address of {name!r}")

    def _give_scratch(self, owned: ExitStack) -> None:
        cuda, nbytes = self._loaded.cuda, max(1, self._context.update_device_memory_size_for_shapes())
        address = cuda.memory(f"the layers of {self._size} tiles", nbytes)
        owned.callback(cuda.free, address)
        self._context.set_device_memory(address, nbytes)

    def _enqueue(self) -> None:
        """Copy in, compute, copy out: all in the stream's turn."""
        spec, cuda = self._loaded.spec, self._loaded.cuda
        tiles = spec.input_name
        cuda.to_device(f"tensor {tiles!r}", self._addresses[tiles], self._hosts[tiles], self._stream)
        self._check(
            self._context.execute_async_v3(int(self._stream)), f"tensors {spec.score_name!r}, {spec.box_name!r}"
        )
        for name in (spec.score_name, spec.box_name):
            cuda.to_host(f"tensor {name!r}", self._hosts[name], self._addresses[name], self._stream)
