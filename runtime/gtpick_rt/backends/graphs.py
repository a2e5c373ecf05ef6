"""What runs the preprocessing graphs of `models.files.PREPROCESSING`, beside a backend."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends import onnx_file
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import PREPROCESSING
from gtpick_rt.types import FloatArray

Side = tuple[int, int]
Matrices = Callable[[Side, Side], dict[str, FloatArray]]
"""Gives all inputs but the image, for one of `(H, W)` that becomes `(h, w)` pixels; called where
they are not there yet. Always the same function."""
OUTPUTS = ("data", "coarse", "sigma", "plain")
_AT_ONCE = 2
"""Micrographs on the device: one is copied while another is computed, and memory does not grow with
the number of threads."""
_ERROR = 3
"""ONNX Runtime's level of logging."""


class Graphs(Protocol):
    """The graphs on a device, for several threads at a time. Whoever opened them closes them."""

    def leaves(self, before: Side, after: Side) -> str:
        """Why images of `(H, W)` that become `(h, w)` pixels are left to the processor; empty where
        they are not.
        """
        ...

    def run(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> dict[str, FloatArray]:
        """Prepare an `(H, W)` image that becomes `(h, w)` pixels; gives `OUTPUTS`.

        Raises BackendError.
        """
        ...

    def warm(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> None:
        """Take the memory that such images need. Raises BackendError."""
        ...

    def close(self) -> None:
        """Give back all that they hold; may be called again, from any thread."""
        ...


class OnnxRuntimeGraphs:
    """The graphs in ONNX Runtime.

    Args:
        provider: the name of the execution provider.
        options: its options.
        device: where it keeps its tensors, as ONNX Runtime calls that: "cpu" or "cuda".

    Raises BackendError when ONNX Runtime is not installed, and ModelError when it cannot load the
    graphs.

    """

    def __init__(self, provider: str, options: Mapping[str, str], device: str) -> None:
        settings = onnx_file.runtime("cuda").SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = _ERROR
        self._device = device
        self._sessions = {
            pixels: onnx_file.load(path, settings, provider, options) for pixels, path in PREPROCESSING.items()
        }
        self._kept = lru_cache(maxsize=4)(self._on_device)
        self._free = threading.Semaphore(_AT_ONCE)

    def leaves(self, before: Side, after: Side) -> str:
        """It takes all sizes; see `Graphs.leaves`."""
        return ""

    def run(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> dict[str, FloatArray]:
        """Prepare an image; see `Graphs.run`."""
        session = self._sessions.get(str(image.dtype))
        if session is None:
            raise BackendError("ONNX Runtime prepares nothing any more")
        try:
            with self._free:
                given = self._kept(image.shape, shape, matrices) | {"image": self._value(np.ascontiguousarray(image))}
                values = session.run_with_ort_values(OUTPUTS, given)
                return {name: value.numpy() for name, value in zip(OUTPUTS, values, strict=True)}
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BackendError(f"ONNX Runtime failed ({onnx_file.said_by(error)})") from error

    def warm(self, image: NDArray[np.floating], shape: Side, matrices: Matrices) -> None:
        """Let it take the memory that it keeps; see `Graphs.warm`."""
        self.run(image, shape, matrices)

    def close(self) -> None:
        """Let go of the device; see `Graphs.close`."""
        self._sessions = {}
        self._kept.cache_clear()

    def _on_device(self, before: Side, after: Side, matrices: Matrices) -> dict[str, Any]:
        return {name: self._value(value) for name, value in matrices(before, after).items()}

    def _value(self, array: NDArray[np.floating]) -> Any:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(array, self._device)
