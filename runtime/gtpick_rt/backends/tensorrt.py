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
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._in_flight: deque[tuple[_Slot, _Submitted, slice]] = deque()

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
        self._loaded = _Loaded(self._library, trt, log, engine, self._cuda, spec, _compiled(trt, engine, kernels))

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

    def _slot(self, lane: int, size: int) -> "_Slot":
        if (lane, size) not in self._slots:
            self._slots[lane, size] = _Slot(self._loaded, lane, self._streams[lane], size)
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


def _compiles_at_run_time(trt: Any) -> bool:
    """Whether this is TensorRT-RTX, whose contexts compile kernels when they meet a shape."""
    return hasattr(trt, "DynamicShapesKernelSpecializationStrategy")


def _compiled(trt: Any, engine: Any, kernels: bytes) -> Any:
    """The cache of kernels, with those of an earlier process where they are of this device, driver
    and version, which the library looks at itself.
    """
    if not _compiles_at_run_time(trt):
        return None
    cache = engine.create_runtime_config().create_runtime_cache()
    if kernels:
        cache.deserialize(kernels)
    return cache


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
    compiled: Any
    """TensorRT-RTX's cache of kernels, which all contexts share."""

    @garbage_waits()
    def context(self) -> Any:
        """Make an execution context whose scratch memory is ours to give."""
        trt, strategy = self.trt, self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not _compiles_at_run_time(trt):
            return self.check(self.engine.create_execution_context(strategy), "an execution context")
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # TensorRT-RTX compiles kernels for a shape when it meets it; a graph that is captured
        # before keeps slower ones.
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self.check(config.set_runtime_cache(self.compiled), "its runtime cache")
        return self.check(self.engine.create_execution_context(config), "an execution context")

    def check(self, result: Any, what: str) -> Any:
        """Return a result of the library, which is None or False where it failed.

        Raises BackendError.
        """
        told = self.log.taken()
        if result is not None and result is not False:
            return result
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
            self._graph = self._captured(owned)
            self._owned = owned.pop_all()

    def start(self, tiles: Tiles, part: slice) -> None:
        """Give up to `size` tiles to the GPU, cut straight into its buffer.

        The rest of the batch stays as it is, and its answers are not read.
        """
        tiles.cut(part, self._hosts[self._loaded.spec.input_name])
        if self._graph is None:
            self._enqueue()
        else:
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
        with self._owned:
            try:
                self._loaded.cuda.synchronize(self._stream)
            finally:
                self._context = None
                self._hosts.clear()

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
        cuda, nbytes = self._loaded.cuda, self._context.update_device_memory_size_for_shapes()
        self._check(nbytes > 0, "the memory of its layers")  # 0 is how it tells an error
        address = cuda.memory(f"the layers of {self._size} tiles", nbytes)
        owned.callback(cuda.free, address)
        self._context.set_device_memory(address, nbytes)

    def _captured(self, owned: ExitStack) -> Any:
        """A graph of a batch, or None where none can be captured: then each batch is enqueued."""
        cuda, capturable = self._loaded.cuda, getattr(self._context, "is_stream_capturable", lambda stream: True)
        if not capturable(int(self._stream)):
            return None
        try:
            graph = cuda.capture(self._stream, self._enqueue)
        except OutOfMemoryError:
            raise
        except BackendError as error:
            _LOG.info(f"batches of {self._size} run without a CUDA graph: {error}")
            return None
        owned.callback(cuda.free_graph, graph)
        return graph

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
