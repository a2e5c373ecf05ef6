"""Preprocessing by the graph of `gtpick_export.preprocessing`, on the device that runs it."""

import logging
import threading
from functools import partial

import numpy as np
from scipy.ndimage import uniform_filter1d

from gtpick_rt.backends.graphs import Graphs
from gtpick_rt.detection.outlying import LARGE
from gtpick_rt.detection.preprocess import WorkingImage, cell_px, to_working_scale, working_shape
from gtpick_rt.detection.resample import resampling_matrix
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph

_LOG = logging.getLogger("gtpick_rt")


class GraphPreparer:
    """A `Preparer` that lets a device prepare micrographs for a model with this spec.

    What the graph does not do is left to the processor: areas that are no ice, and pixels too large
    to reckon with. So are sizes that the device does not take, and all micrographs once the device
    has failed, or this is closed.
    """

    def __init__(self, spec: ModelSpec, graphs: Graphs) -> None:
        self._spec, self._graphs, self._open = spec, graphs, True
        self._matrices = partial(constants, spec=spec)
        self._told: set[str] = set()
        self._telling = threading.Lock()

    def prepare(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage:
        """Prepare a micrograph as `to_working_scale` does, within 2e-5 standard deviations.

        Raises PixelError.
        """
        image = None
        try:
            image = self.attempt(micrograph, diameter_A)
        except BackendError as error:
            self.give_up(error)
        return to_working_scale(micrograph, diameter_A, self._spec) if image is None else image

    def give_up(self, error: BackendError) -> None:
        """Leave all micrographs to the processor from now on, and say why."""
        with self._telling:
            if self._open:  # else another thread has said why
                _LOG.warning(f"the processor prepares micrographs from now on: {error}")
            self._open = False
        self.close()

    def attempt(self, micrograph: Micrograph, diameter_A: float) -> WorkingImage | None:
        """Prepare it by the graph alone; None of what is left to the processor.

        Raises PixelError, and BackendError when the device fails.
        """
        shape = working_shape(micrograph, diameter_A, self._spec)
        if not self._open or self._leaves(micrograph, shape):
            return None
        try:
            found = self._graphs.run(micrograph.data, shape, self._matrices)
        except BackendError as error:
            raise BackendError(f"{micrograph.path} could not be prepared: {error}") from error
        if not (found["plain"] and np.isfinite(found["sigma"])):
            return None
        height, width = micrograph.data.shape
        return WorkingImage(found["data"], (height, width), found["coarse"], blank=bool(found["sigma"] == 0))

    def _leaves(self, micrograph: Micrograph, shape: tuple[int, int]) -> bool:
        """Whether the device does not take such micrographs, which is said once."""
        height, width = micrograph.data.shape
        reason = self._graphs.leaves((height, width), shape)
        with self._telling:
            if reason and reason not in self._told:
                self._told.add(reason)
                _LOG.warning(f"the processor prepares {micrograph.path} and others of {reason}")
        return bool(reason)

    def warm(self, micrograph: Micrograph, diameter_A: float) -> None:
        """Take the memory that micrographs of this size need. Raises PixelError or BackendError."""
        self._graphs.warm(micrograph.data, working_shape(micrograph, diameter_A, self._spec), self._matrices)

    def close(self) -> None:
        """Let go of the device; see `Preparer.close`."""
        self._open = False
        self._graphs.close()


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
