"""Preprocessing by the graph of `gtpick_export.preprocessing`, on the device that runs it."""

import logging
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from gtpick_rt.backends import onnx_file
from gtpick_rt.detection.outlying import LARGE
from gtpick_rt.detection.preprocess import WorkingImage, cell_px, to_working_scale, working_shape
from gtpick_rt.detection.resample import resampling_matrix
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import PREPROCESSING
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

_OUTPUTS = ("data", "coarse", "sigma", "plain")
_AT_ONCE = 2
"""Micrographs on the device: one is copied while another is computed, and memory does not grow with
the number of threads."""
_ERROR = 3
"""ONNX Runtime's level of logging."""
_LOG = logging.getLogger("gtpick_rt")


class GraphPreparer:
    """A `Preparer` that lets ONNX Runtime prepare micrographs by one of its execution providers.

    What the graph does not do is left to the processor: areas that are no ice, and pixels too large
    to reckon with. So are all micrographs once the device has failed, or this is closed.

    Args:
        spec: of the model that micrographs are prepared for.
        provider: the name of the execution provider.
        options: its options.
        device: where it keeps its tensors, as ONNX Runtime calls that: "cpu" or "cuda".

    Raises BackendError when ONNX Runtime is not installed, and ModelError when it cannot load the
    graphs.

    """

    def __init__(self, spec: ModelSpec, provider: str, options: Mapping[str, str], device: str) -> None:
        settings = onnx_file.runtime("cuda").SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = _ERROR
        self._spec, self._device = spec, device
        self._sessions = {
            pixels: onnx_file.load(path, settings, provider, options) for pixels, path in PREPROCESSING.items()
        }
        self._constants = lru_cache(maxsize=4)(self._on_device)
        self._free = threading.Semaphore(_AT_ONCE)

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph as `to_working_scale` does, within 2e-5 standard deviations.

        Raises PixelError.
        """
        image = None
        try:
            image = self.attempt(micrograph, diameter_A)
        except BackendError as error:
            _LOG.warning(f"the processor prepares micrographs from now on: {error}")
            self.close()
        return to_working_scale(micrograph, diameter_A, self._spec) if image is None else image

    def attempt(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage | None:
        """Prepare it by the graph alone; None of what is left to the processor.

        Raises PixelError, and BackendError when the device fails.
        """
        shape = working_shape(micrograph, diameter_A, self._spec)
        session = self._sessions.get(str(micrograph.data.dtype))
        if session is None:
            return None
        try:
            data, coarse, sigma, plain = self._run(session, micrograph.data, shape)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BackendError(f"ONNX Runtime failed to prepare {micrograph.path} ({error})") from error
        if not (plain and np.isfinite(sigma)):
            return None
        height, width = micrograph.data.shape
        return WorkingImage(data, (height, width), coarse, blank=bool(sigma == 0))

    def close(self) -> None:
        """Let go of the device; see `Preparer.close`."""
        self._sessions = {}
        self._constants.cache_clear()

    def _run(self, session: Any, image: NDArray[np.floating], shape: tuple[int, int]) -> list[Any]:
        with self._free:
            given = self._constants(image.shape, shape) | {"image": self._value(np.ascontiguousarray(image))}
            return [value.numpy() for value in session.run_with_ort_values(_OUTPUTS, given)]

    def _on_device(self, before: tuple[int, int], after: tuple[int, int]) -> dict[str, Any]:
        return {name: self._value(value) for name, value in constants(before, after, self._spec).items()}

    def _value(self, array: NDArray[np.floating]) -> Any:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(array, self._device)


def constants(before: tuple[int, int], after: tuple[int, int], spec: ModelSpec) -> dict[str, FloatArray]:
    """What goes into the graph beside micrographs of `(H, W)` pixels that become `(h, w)`."""
    (height, width), (h, w) = before, after
    return {
        "down": resampling_matrix(height, h),
        "across": resampling_matrix(width, w).T.copy(),
        "smooth_down": _smoothing(h, spec.highpass_px),
        "smooth_across": _smoothing(w, spec.highpass_px).T.copy(),
        "cells_down": _cells(h, cell_px(spec)),
        "cells_across": _cells(w, cell_px(spec)).T.copy(),
        "clip": np.array(spec.clip, np.float32),
        "least_area": np.array(LARGE * spec.diameter_px**2, np.float32),
    }


def _smoothing(n: int, width: int) -> FloatArray:
    """`(n, n)`: a box filter applied twice along a line that goes on as in a mirror."""
    once = uniform_filter1d(np.eye(n), width, axis=0, mode="reflect")
    return np.asarray(uniform_filter1d(once, width, axis=0, mode="reflect"), np.float32)


def _cells(n: int, size: int) -> FloatArray:
    """`(cells, n)`: means of so many pixels of a line, the last cell cut short."""
    cell = np.arange(n) // size
    belongs = cell == np.arange(cell[-1] + 1)[:, None]
    return np.asarray(belongs / belongs.sum(axis=1, keepdims=True), np.float32)
