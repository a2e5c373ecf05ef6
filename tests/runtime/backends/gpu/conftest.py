"""A GPU of paper: CUDA's runtime and TensorRT as far as they are called, with every call recorded.

What is given to a stream is done only when somebody waits for the stream, so a buffer that is
touched while it is in flight gives wrong answers.
"""

import ctypes
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial, wraps
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gtpick_rt.backends.engines.profiles import PROFILE, Shapes
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

Answer = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorECCUncorrectable = 214
    cudaErrorNotPermitted = 800
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorLaunchFailure = 719


class Copy(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Capture(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


@dataclass(frozen=True)
class Work:
    """One thing that a stream has to do, and the memory that it touches."""

    do: Callable[[], object]
    memory: frozenset[int]


def recorded(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Note each call, and fail where that is wanted."""

    @wraps(function)
    def call(self: "PaperCudart", *arguments: Any) -> tuple[Any, ...]:
        self.calls.append((function.__name__, *arguments))
        failure = self.failures.get(function.__name__)
        if failure is None:
            return function(self, *arguments)
        if function.__name__ == "cudaStreamSynchronize":  # what has failed is no longer in flight
            self.queues[arguments[0]].clear()
        if function.__name__ == "cudaStreamEndCapture":
            self.captured = None
        return failure, None

    return call


@dataclass
class PaperCudart:
    """The module `cuda.bindings.runtime`."""

    capacity: int = 1 << 40
    """Bytes of the GPU's memory."""
    count: int = 1
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failures: dict[str, Status] = field(default_factory=dict)
    """What a function returns instead of doing anything."""
    blocks: dict[int, Any] = field(default_factory=dict)
    """Memory that was not given back, by address."""
    on_gpu: set[int] = field(default_factory=set)
    queues: dict[int, list[Work]] = field(default_factory=dict)
    """What each stream has still to do."""
    capturing: threading.local = field(default_factory=threading.local)
    spoilt: bool = False
    """Whether something failed while it was captured."""
    graphs: dict[int, list[Work]] = field(default_factory=dict)
    recordings: dict[int, list[Work]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(100))
    """Of recordings and graphs."""
    cudaError_t = Status
    cudaMemcpyKind = Copy
    cudaStreamCaptureMode = Capture
    cudaStreamNonBlocking = 1

    @property
    def captured(self) -> list[Work] | None:
        """What this thread records, whose calls alone may break that."""
        return getattr(self.capturing, "works", None)

    @captured.setter
    def captured(self, works: list[Work] | None) -> None:
        self.capturing.works = works

    def enqueue(self, stream: int, work: Work) -> None:
        """Let the stream do it in its turn, or record it."""
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.queues[stream].append(work)

    def array(self, address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> FloatArray:
        """The memory at an address, which must hold that much."""
        count = int(np.prod(shape))
        block = self.blocks[address]
        assert np.dtype(dtype).itemsize * count <= ctypes.sizeof(block), "reaches beyond the memory that was given"
        return np.frombuffer(block, dtype, count).reshape(shape)

    def used(self) -> int:
        return sum(ctypes.sizeof(self.blocks[address]) for address in self.on_gpu)

    def _block(self, nbytes: int) -> int:
        block = ctypes.create_string_buffer(nbytes)
        address = ctypes.addressof(block)
        self.blocks[address] = block
        return address

    def _give_back(self, address: int) -> None:
        in_flight = (work.memory for queue in self.queues.values() for work in queue)
        assert not any(address in memory for memory in in_flight), "given back while it is in use"
        del self.blocks[address]

    @recorded
    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Status.cudaSuccess, 13000

    @recorded
    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return Status.cudaSuccess, self.count

    @recorded
    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        return Status.cudaSuccess, SimpleNamespace(name=b"Paper GPU\0\0", major=8, minor=6)

    @recorded
    def cudaDeviceGetPCIBusId(self, length: int, index: int) -> tuple[Any, ...]:
        return Status.cudaSuccess, b"0000:3b:00.0".ljust(length, b"\0")

    @recorded
    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return Status.cudaSuccess, self.capacity - self.used(), self.capacity

    @recorded
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = 7 + len(self.queues)
        self.queues[stream] = []
        return Status.cudaSuccess, stream

    @recorded
    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        assert not self.queues.pop(stream), "destroyed with work in flight"
        return (Status.cudaSuccess,)

    @recorded
    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert self.captured is None, "waiting breaks a capture"
        for work in self.queues[stream]:
            work.do()
        self.queues[stream].clear()
        return (Status.cudaSuccess,)

    @recorded
    def cudaMallocHost(self, nbytes: int) -> tuple[Any, ...]:
        return Status.cudaSuccess, self._block(nbytes)

    @recorded
    def cudaMalloc(self, nbytes: int) -> tuple[Any, ...]:
        assert self.captured is None, "allocating breaks a capture"
        if self.used() + nbytes > self.capacity:
            return Status.cudaErrorMemoryAllocation, None
        address = self._block(nbytes)
        self.on_gpu.add(address)
        return Status.cudaSuccess, address

    @recorded
    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self._give_back(address)
        self.on_gpu.remove(address)
        return (Status.cudaSuccess,)

    @recorded
    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        self._give_back(address)
        return (Status.cudaSuccess,)

    @recorded
    def cudaMemcpyAsync(self, to: int, start: int, nbytes: int, kind: Copy, stream: int) -> tuple[Any, ...]:
        device, host = (to, start) if kind == Copy.cudaMemcpyHostToDevice else (start, to)
        assert device in self.on_gpu, "not the GPU's memory"
        assert host in self.blocks.keys() - self.on_gpu, "not pinned memory"
        self.enqueue(stream, Work(lambda: ctypes.memmove(to, start, nbytes), frozenset({to, start})))
        return (Status.cudaSuccess,)

    @recorded
    def cudaStreamBeginCapture(self, stream: int, mode: Capture) -> tuple[Any, ...]:
        self.captured = []
        return (Status.cudaSuccess,)

    @recorded
    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        assert self.captured is not None
        if self.spoilt:
            self.captured, self.spoilt = None, False
            return Status.cudaErrorStreamCaptureInvalidated, None
        number = next(self.numbers)
        self.recordings[number], self.captured = self.captured, None
        return Status.cudaSuccess, number

    @recorded
    def cudaGraphInstantiate(self, recording: int, flags: int) -> tuple[Any, ...]:
        number = next(self.numbers)
        self.graphs[number] = list(self.recordings[recording])
        return Status.cudaSuccess, number

    @recorded
    def cudaGraphDestroy(self, recording: int) -> tuple[Any, ...]:
        del self.recordings[recording]
        return (Status.cudaSuccess,)

    @recorded
    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        in_flight = {work for queue in self.queues.values() for work in queue}
        assert not in_flight & set(self.graphs.pop(graph)), "given back while it runs"
        return (Status.cudaSuccess,)

    @recorded
    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        self.queues[stream] += self.graphs[graph]
        return (Status.cudaSuccess,)


Compute = Callable[[dict[str, FloatArray]], dict[str, FloatArray]]


@dataclass(frozen=True)
class PaperPlan:
    """What an engine takes, and what it makes of that."""

    profile: Shapes
    inputs: dict[str, Any]
    """Their types."""
    outputs: tuple[str, ...]
    compute: Compute


class PaperContext:
    """An execution context: it computes when its stream gets there."""

    def __init__(self, trt: "PaperTrt", number: int, plan: PaperPlan) -> None:
        self._trt, self._number, self._plan = trt, number, plan
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch: int | None = None

    def _record(self, name: str, *arguments: Any) -> bool:
        self._trt.cudart.calls.append((name, self._number, *arguments))
        return name not in self._trt.refusals

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self._profile = number
        return self._record("set_optimization_profile_async", number, stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._plan.profile.ranges_of(name, (-1, *shape[1:]))[self._profile]
        within = all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True))
        assert within, "the profile has no kernels for this size"
        self._shapes[name] = shape
        return self._record("set_input_shape", name, shape)

    def _first(self) -> int:
        return next(iter(self._shapes.values()))[0]

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._shapes, "the size is not known before the shapes"
        return self._trt.scratch * self._first() * self._record("update_device_memory_size_for_shapes")

    def set_device_memory(self, address: int, nbytes: int) -> None:
        assert ctypes.sizeof(self._trt.cudart.blocks[address]) == nbytes
        self._scratch = address
        self._record("set_device_memory", address)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return self._record("set_tensor_address", name, address)

    def execute_async_v3(self, stream: int) -> bool:
        assert type(stream) is int
        assert self._scratch is not None, "enqueued without memory"
        tensors = {*self._plan.inputs, *self._plan.outputs}
        assert set(self._addresses) == tensors, "enqueued before the addresses were set"
        capturing = self._trt.cudart.captured is not None
        if not self._record("execute_async_v3", stream, self._first()) or (
            capturing and "capture" in self._trt.refusals
        ):
            self._trt.cudart.spoilt = capturing
            return False
        self._trt.cudart.enqueue(stream, Work(self._compute, frozenset({self._scratch, *self._addresses.values()})))
        return True

    def _compute(self) -> None:
        array = self._trt.cudart.array
        given = {
            name: array(self._addresses[name], self._shapes.get(name, ()), dtype)
            for name, dtype in self._plan.inputs.items()
        }
        for name, value in self._plan.compute(given).items():
            array(self._addresses[name], value.shape)[...] = value


class PaperConfig:
    """Settings of an execution context of TensorRT-RTX."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"
    strategy = "static"

    cache: "PaperCache | None" = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> "PaperCache":
        return PaperCache()

    def set_runtime_cache(self, cache: "PaperCache") -> bool:
        self.cache = cache
        return True


@dataclass
class PaperCache:
    """TensorRT-RTX's cache of kernels; it takes only what looks like some."""

    content: bytes = b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        fits = blob.startswith(b"kernels")
        self.content = blob if fits else self.content
        return fits

    def serialize(self) -> bytes:
        return self.content


@dataclass(eq=False)
class PaperEngine:
    """A deserialized engine."""

    create_execution_context: Callable[[Any], PaperContext | None]

    def create_runtime_config(self) -> PaperConfig:
        return PaperConfig()


@dataclass(eq=False)
class PaperTrt:
    """The module `tensorrt`; as the real one, it heeds the first logger that it is given and no
    other.
    """

    cudart: PaperCudart
    answer: Answer
    plans: dict[bytes, PaperPlan] = field(default_factory=dict)
    """Beside b"plan", which gives `answer`."""
    scratch: int = 100
    """Bytes of the layers, for each tile."""
    refusals: set[str] = field(default_factory=set)
    """Methods of the context that return False; "capture" is to enqueue while a graph is
    captured."""
    errors: dict[str, str] = field(default_factory=dict)
    """What is logged at a call."""
    configs: list[Any] = field(default_factory=list)
    """With what each execution context was made."""
    alive: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)
    """Engines and execution contexts that somebody still holds."""
    log: Any = None

    __version__ = "10.13.0"
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user-managed")

    class ILogger:
        def __init__(self) -> None:
            pass

    def Runtime(self, log: Any) -> Any:
        self.log = self.log or log
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _deserialize(self, plan: bytes) -> Any:
        plans = {b"plan": PaperPlan(PROFILE, {"tiles": np.float32}, ("scores", "boxes"), self._network), **self.plans}
        if "engine" in self.errors:
            self.tell(self.errors["engine"])
            return None
        if plan not in plans:
            self.tell("the magic tag does not match")
            return None
        engine = PaperEngine(partial(self._context, plans[plan]))
        self.alive.add(engine)
        return engine

    def tell(self, error: str) -> None:
        self.log.log(SimpleNamespace(name="ERROR"), error)

    def _network(self, given: dict[str, FloatArray]) -> dict[str, FloatArray]:
        return dict(zip(("scores", "boxes"), self.answer(given["tiles"]), strict=True))

    def _context(self, plan: PaperPlan, config: Any) -> PaperContext | None:
        self.configs.append(config)
        if "context" in self.errors:
            self.tell(self.errors["context"])
            return None
        context = PaperContext(self, len(self.configs), plan)
        self.alive.add(context)
        return context


@pytest.fixture
def answer(tiny_spec: ModelSpec) -> Answer:
    """What the paper engine computes of `(n, 1, t, t)` tiles: every pixel of a tile has a part in
    it.
    """
    weight = np.random.default_rng(0).random((tiny_spec.tile_px**2, tiny_spec.queries), np.float32)

    def compute(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores = tiles.reshape(len(tiles), -1) @ weight
        return scores, np.stack([scores, 2 * scores, 3 * scores], axis=2)

    return compute


@pytest.fixture
def cudart(monkeypatch: pytest.MonkeyPatch) -> PaperCudart:
    """The paper GPU, which cuda-python finds."""
    paper = PaperCudart()
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=paper))  # type: ignore[arg-type]
    return paper


@pytest.fixture
def trt(cudart: PaperCudart, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> PaperTrt:
    """The paper TensorRT on that GPU."""
    paper = PaperTrt(cudart, answer)
    monkeypatch.setattr("gtpick_rt.backends.engines.running.library", lambda name: paper)
    return paper


@pytest.fixture
def paper_plan() -> type[PaperPlan]:
    """What other engines of the paper TensorRT are made of."""
    return PaperPlan


@pytest.fixture
def backend(trt: PaperTrt, tiny_spec: ModelSpec) -> Iterator[TensorRt]:
    """The run loop with an engine loaded."""
    loop = TensorRt("tensorrt")
    loop.load(b"plan", tiny_spec)
    yield loop
    loop.close()


@pytest.fixture
def tiles(tiny_spec: ModelSpec) -> FloatArray:
    """A hundred tiles, each another."""
    side = tiny_spec.tile_px
    return np.random.default_rng(1).random((100, 1, side, side), np.float32)


@pytest.fixture
def with_half(tiny_model: Path) -> Path:
    """A model with a file in half precision beside it, which is a copy."""
    shutil.copy(tiny_model, tiny_model.with_name("tiny.fp16.onnx"))
    return tiny_model
