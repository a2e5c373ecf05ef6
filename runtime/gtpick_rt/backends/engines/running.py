"""An engine of TensorRT that is loaded, and what each size of batch needs to run on it."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from gtpick_rt.backends.base import Tiles
from gtpick_rt.backends.batching import OutOfMemoryError
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

_LOG = logging.getLogger("gtpick_rt")


def _compiles_at_run_time(trt: Any) -> bool:
    """Whether this is TensorRT-RTX, whose contexts compile kernels when they meet a shape."""
    return hasattr(trt, "DynamicShapesKernelSpecializationStrategy")


def compiled_kernels(trt: Any, engine: Any, kernels: bytes) -> Any:
    """The cache of kernels, with those of an earlier process where they are of this device, driver
    and version, which the library looks at itself.
    """
    if not _compiles_at_run_time(trt):
        return None
    cache = engine.create_runtime_config().create_runtime_cache()
    if kernels:
        cache.deserialize(kernels)
    return cache


@dataclass(frozen=True)
class Loaded:
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


class Slot:
    """One size of batch on one stream: an execution context, its buffers and its CUDA graph, which
    nothing else uses.

    Between `start` and `finish` the buffers belong to the GPU.
    """

    def __init__(self, loaded: Loaded, lane: int, stream: Any, size: int) -> None:
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
