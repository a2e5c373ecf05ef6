"""An engine of TensorRT that is loaded, and what each size of its tensors needs to run on it."""

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends.batching import OutOfMemoryError
from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits, library, logger
from gtpick_rt.errors import BackendError
from gtpick_rt.types import FloatArray

_LOG = logging.getLogger("gtpick_rt")
_OF_DEVICE = re.compile(r"cuda (runtime|driver) \(|cudaError|cuda error|cuda initialization failure", re.IGNORECASE)
"""How the library tells that a call of CUDA failed, whatever it was called for."""


class UnloadableError(BackendError):
    """The library does not take this engine."""


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
    compiled: Any
    """TensorRT-RTX's cache of kernels, which all contexts share."""

    @classmethod
    @garbage_waits()
    def of(cls, name: LibraryName, plan: bytes, kernels: bytes) -> "Loaded":
        """Load a plan, which is code: it must have been built here.

        `kernels` are those that an earlier process told. Raises UnloadableError when the library
        does not take the plan, and BackendError, also when the GPU is full or fails: then another
        plan would load no better.
        """
        trt = library(name)
        log = logger(trt)
        log.taken()  # of what was done before
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            told = log.taken()
            if _is_of_memory(told):
                raise OutOfMemoryError(
                    "the GPU's memory is too small for the engine: see nvidia-smi for what else uses it, or pick with "
                    "--backend cpu"
                )
            if _OF_DEVICE.search(told):
                raise BackendError(
                    f"{name} failed at loading its engine: {told}; see nvidia-smi, or pick with --backend cpu"
                )
            raise UnloadableError(f"{name} cannot load its engine: {told}; see gtpick-rt doctor")
        return cls(name, trt, log, engine, Cuda(), compiled_kernels(trt, engine, kernels))

    @property
    def kernels(self) -> bytes:
        """What TensorRT-RTX has compiled so far; empty with TensorRT, which compiles all when it
        builds.
        """
        return b"" if self.compiled is None else bytes(self.check(self.compiled.serialize(), "its runtime cache"))

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
        if _is_of_memory(told):
            raise OutOfMemoryError(f"the GPU's memory is too small for {what}")
        raise BackendError(f"{self.name} failed at {what}: {told or 'it does not say why'}")


def _is_of_memory(told: str) -> bool:
    return "out of memory" in told.lower() or "OutOfMemory" in told


class Tensor(NamedTuple):
    """What a tensor holds."""

    shape: tuple[int, ...]
    dtype: Any = np.float32


@dataclass(frozen=True, eq=False)
class Size:
    """What an engine takes and gives, in one size."""

    of: str
    """For errors: "in batches of 8"."""
    profile: int
    given: Mapping[str, Tensor]
    """Copied to the GPU in each run."""
    answered: Mapping[str, Tensor]
    """Copied from there in each run."""
    kept: Mapping[str, FloatArray] = field(default_factory=dict)
    """Inputs that stay as they are: copied to the GPU once."""


class Slot:
    """One size on one stream: an execution context, its buffers and its CUDA graph, which nothing
    else uses.

    Between `start` and `finish` the buffers belong to the GPU.
    """

    def __init__(self, loaded: Loaded, stream: Any, size: Size) -> None:
        self._loaded, self._stream, self._size = loaded, stream, size
        self._addresses: dict[str, int] = {}
        self.hosts: dict[str, NDArray[Any]] = {}
        """Pinned arrays, by the names of what is given and answered; the former are filled before
        `start`."""
        inputs = {**size.given, **{name: Tensor(array.shape) for name, array in size.kept.items()}}
        with ExitStack() as owned:
            self._context = loaded.context()
            self._check(
                self._context.set_optimization_profile_async(size.profile, int(stream)), "its optimisation profile"
            )
            for name, tensor in inputs.items():
                if tensor.shape:  # others have but one shape
                    self._check(self._context.set_input_shape(name, tensor.shape), f"the shape of {name!r}")
            for name, tensor in {**inputs, **size.answered}.items():
                self._give(owned, name, tensor)
            self._give_scratch(owned)
            owned.callback(loaded.cuda.synchronize, stream)  # before anything is given back
            self._keep()
            self._enqueue()  # the first run of a shape allocates, which a capture cannot
            loaded.cuda.synchronize(stream)
            self._graph = self._captured(owned)
            self._owned = owned.pop_all()

    def start(self) -> None:
        """Give what `hosts` hold to the GPU."""
        if self._graph is None:
            self._enqueue()
        else:
            self._loaded.cuda.launch(self._graph, self._stream)

    def finish(self) -> dict[str, NDArray[Any]]:
        """Wait, and return the answers, which hold until the next `start`."""
        self._loaded.cuda.synchronize(self._stream)
        return {name: self.hosts[name] for name in self._size.answered}

    def close(self) -> None:
        """Give everything back, once what is in flight has landed."""
        with self._owned:
            try:
                self._loaded.cuda.synchronize(self._stream)
            finally:
                self._context = None
                self.hosts.clear()

    def _check(self, result: Any, what: str) -> None:
        self._loaded.check(result, f"{what} {self._size.of}")

    def _give(self, owned: ExitStack, name: str, tensor: Tensor) -> None:
        """Make the buffers of a tensor, and tell the context where it lies on the GPU."""
        cuda, what = self._loaded.cuda, f"tensor {name!r} {self._size.of}"
        if name not in self._size.kept:
            self.hosts[name] = cuda.pinned(what, tensor.shape, tensor.dtype)
            owned.callback(cuda.free_pinned, self.hosts[name])
        address = self._addresses[name] = cuda.memory(what, _bytes(tensor))
        owned.callback(cuda.free, address)
        self._check(self._context.set_tensor_address(name, address), f"the address of {name!r}")

    def _give_scratch(self, owned: ExitStack) -> None:
        cuda, nbytes = self._loaded.cuda, self._context.update_device_memory_size_for_shapes()
        self._check(nbytes > 0, "the memory of its layers")  # 0 is how it tells an error
        address = cuda.memory(f"its layers {self._size.of}", nbytes)
        owned.callback(cuda.free, address)
        self._context.set_device_memory(address, nbytes)

    def _keep(self) -> None:
        """Copy what stays, from pinned memory that is needed no longer then."""
        cuda = self._loaded.cuda
        for name, array in self._size.kept.items():
            what = f"tensor {name!r} {self._size.of}"
            pinned = cuda.pinned(what, array.shape)
            try:
                np.copyto(pinned, array)
                cuda.to_device(what, self._addresses[name], pinned, self._stream)
                cuda.synchronize(self._stream)
            finally:
                cuda.free_pinned(pinned)

    def _captured(self, owned: ExitStack) -> Any:
        """A graph of a run, or None where none can be captured: then each run is enqueued."""
        cuda, capturable = self._loaded.cuda, getattr(self._context, "is_stream_capturable", lambda stream: True)
        if not capturable(int(self._stream)):
            return None
        try:
            graph = cuda.capture(self._stream, self._enqueue)
        except OutOfMemoryError:
            raise
        except BackendError as error:
            _LOG.info(f"{self._loaded.name} runs without a CUDA graph {self._size.of}: {error}")
            return None
        owned.callback(cuda.free_graph, graph)
        return graph

    def _enqueue(self) -> None:
        """Copy in, compute, copy out: all in the stream's turn."""
        size, cuda = self._size, self._loaded.cuda
        for name in size.given:
            cuda.to_device(f"tensor {name!r}", self._addresses[name], self.hosts[name], self._stream)
        answered = ", ".join(map(repr, size.answered))
        self._check(self._context.execute_async_v3(int(self._stream)), f"tensors {answered}")
        for name in size.answered:
            cuda.to_host(f"tensor {name!r}", self.hosts[name], self._addresses[name], self._stream)


def _bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
