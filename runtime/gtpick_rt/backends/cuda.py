"""The few calls of the CUDA runtime that a backend makes, each checked; by cuda-python, imported
when it is needed.
"""

import ctypes
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends.batching import OutOfMemoryError
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.backends.support import GPU_BACKENDS, install_command
from gtpick_rt.errors import BackendError

_DRIVER = Path("/proc/driver/nvidia/version")
_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""How a GPU shows on Linux, and on Linux within Windows."""
_ABSENT = {"cudaErrorNoDevice", "cudaErrorInsufficientDriver", "cudaErrorStubLibrary", "cudaErrorInitializationError"}
_LOST = {
    "cudaErrorDevicesUnavailable",
    "cudaErrorECCUncorrectable",
    "cudaErrorHardwareStackError",
    "cudaErrorIllegalAddress",
    "cudaErrorLaunchFailure",
    "cudaErrorLaunchTimeout",
    "cudaErrorNvlinkUncorrectable",
    "cudaErrorSystemNotReady",
    "cudaErrorUnknown",
}
"""After these the process can do nothing more with the GPU."""


def gpu_is_here() -> bool:
    """Whether there may be an NVIDIA GPU, told without loading a library."""
    return any(path.exists() for path in (_DRIVER, *_DEVICES))


def driver_version() -> str:
    """The driver's version as the kernel tells it: "580.159.03"; empty where it does not."""
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text())
    except OSError:
        return ""
    return found.group() if found else ""


class Cuda:
    """The CUDA runtime.

    `what` in each call is the tensor, or whatever else it is for, and stands in its errors.

    Memory, streams and graphs belong to the caller, who frees them. Raises BackendError where
    cuda-python is absent.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except (ImportError, RuntimeError) as error:
            raise BackendError(
                f"cuda-python is not usable here ({error}): {install_command('tensorrt', driver_version())}, or "
                f"{install_command('tensorrt-rtx', driver_version())}"
            ) from error
        self._cudart: Any = runtime

    def gpus(self) -> list[Gpu]:
        """The GPUs that this process may use. Raises BackendError when there is none."""
        driver = driver_version() or f"CUDA {self._call('the driver', 'cudaDriverGetVersion')}"
        found = []
        for index in range(self._call("the GPUs", "cudaGetDeviceCount")):
            properties = self._call(f"GPU {index}", "cudaGetDeviceProperties", index)
            name = bytes(properties.name).split(b"\0", 1)[0].decode()
            found.append(Gpu(name, (int(properties.major), int(properties.minor)), driver))
        if not found:
            raise BackendError("no NVIDIA GPU is visible to this process: see nvidia-smi, or pick with --backend cpu")
        return found

    def pci_bus_id(self) -> bytes:
        """Where the first GPU that this process may use is plugged in, as other libraries take
        it.
        """
        return bytes(self._call("GPU 0", "cudaDeviceGetPCIBusId", 32, 0)).rstrip(b"\0")

    def stream(self) -> Any:
        """A stream that waits for no other."""
        return self._call("a stream", "cudaStreamCreateWithFlags", self._cudart.cudaStreamNonBlocking)

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was given to the stream is done."""
        self._call("a batch", "cudaStreamSynchronize", stream)

    def pinned(self, what: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """Zeros on the host, where the GPU can reach them; free them with `free_pinned`."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self._call(what, "cudaMallocHost", nbytes)
        array = np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(int(address)))
        array[...] = 0
        return array.view(dtype).reshape(shape)

    def memory(self, what: str, nbytes: int) -> int:
        """Memory of the GPU; free it with `free`."""
        return int(self._call(what, "cudaMalloc", nbytes))

    def memory_in_use(self) -> tuple[int, int]:
        """Bytes of the GPU's memory that all programs use, and that it has."""
        free, total = self._results("the GPU's memory", "cudaMemGetInfo")
        return int(total) - int(free), int(total)

    def to_device(self, what: str, address: int, array: NDArray[Any], stream: Any) -> None:
        """Copy pinned memory to the GPU, in the stream's turn."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(what, "cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def to_host(self, what: str, array: NDArray[Any], address: int, stream: Any) -> None:
        """Copy memory of the GPU to pinned memory, in the stream's turn."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(what, "cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Any:
        """Record what `enqueue` gives to the stream, which does not run meanwhile, as a graph that
        `launch` runs.
        """
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("a CUDA graph", "cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except BaseException:
            with suppress(BackendError):  # a capture that failed cannot end well, and why it failed is what counts
                self._call("a CUDA graph", "cudaGraphDestroy", self._end_capture(stream))
            raise
        recorded = self._end_capture(stream)
        try:
            return self._call("a CUDA graph", "cudaGraphInstantiate", recorded, 0)
        finally:
            self._call("a CUDA graph", "cudaGraphDestroy", recorded)

    def _end_capture(self, stream: Any) -> Any:
        return self._call("a CUDA graph", "cudaStreamEndCapture", stream)

    def launch(self, graph: Any, stream: Any) -> None:
        """Run a captured graph in the stream's turn."""
        self._call("a CUDA graph", "cudaGraphLaunch", graph, stream)

    def free(self, address: int) -> None:
        """Give back memory of the GPU."""
        self._call("memory", "cudaFree", address)

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Give back pinned memory, which nobody may touch again."""
        self._call("memory", "cudaFreeHost", array.ctypes.data)

    def free_graph(self, graph: Any) -> None:
        """Give back a captured graph."""
        self._call("a CUDA graph", "cudaGraphExecDestroy", graph)

    def free_stream(self, stream: Any) -> None:
        """Give back a stream."""
        self._call("a stream", "cudaStreamDestroy", stream)

    def _call(self, what: str, function: str, *arguments: Any) -> Any:
        """Call, and return the first that the call gives beside its status."""
        results = self._results(what, function, *arguments)
        return results[0] if results else None

    def _results(self, what: str, function: str, *arguments: Any) -> list[Any]:
        """Call, and return all that the call gives beside its status.

        Raises BackendError unless that is success.
        """
        try:
            status, *results = getattr(self._cudart, function)(*arguments)
        except RuntimeError as error:  # cuda-python finds no driver to call
            raise BackendError(
                f"there is no usable NVIDIA driver ({error}): install one, or pick with --backend cpu"
            ) from error
        if status == self._cudart.cudaError_t.cudaSuccess:
            return results
        raise _error(what, function, status.name)


class MemoryTaken(NamedTuple):
    """Of the GPU's memory, in bytes."""

    taken: int
    """Since it was looked at first."""
    in_use: int
    """By all programs."""
    total: int


def watch_memory(backend: str) -> Callable[[], MemoryTaken | None]:
    """A function that tells what has been taken of the GPU's memory since now.

    It gives None for a backend that runs on the CPU, and where the GPU cannot be asked.
    """

    def look() -> tuple[int, int] | None:
        if backend not in GPU_BACKENDS:
            return None
        try:
            return Cuda().memory_in_use()
        except BackendError:
            return None

    before = look()

    def taken() -> MemoryTaken | None:
        now = look()
        return None if before is None or now is None else MemoryTaken(now[0] - before[0], *now)

    return taken


def current_gpu() -> Gpu:
    """The GPU that backends run on: the first that is visible to the process.

    Raises BackendError.
    """
    return Cuda().gpus()[0]


def _error(what: str, function: str, name: str) -> BackendError:
    if name == "cudaErrorMemoryAllocation":
        return OutOfMemoryError(f"the GPU's memory is too small for {what}")
    if name in _ABSENT:
        return BackendError(f"there is no usable NVIDIA GPU ({name}): see nvidia-smi, or pick with --backend cpu")
    if name in _LOST:
        return BackendError(
            f"the GPU was lost at {what} ({function}: {name}); see nvidia-smi and the kernel's log, then run again: "
            "what was not committed is picked then"
        )
    return BackendError(f"the GPU failed at {what} ({function}: {name})")
