"""ONNX Runtime on the CPU: the backend that needs no GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtpick_rt.backends import onnx_file
from gtpick_rt.backends.base import AtOnce
from gtpick_rt.backends.cores import usable_cores
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

if TYPE_CHECKING:
    from onnxruntime import SessionOptions


class OnnxRuntimeCpu(AtOnce):
    """ONNX Runtime's CPU execution provider, one tile at a time on each physical core that the
    process may use.

    Cores that share the layers of one tile wait for each other at the end of each: that takes 1.15
    times as long on two cores, and more on more.
    """

    name = "onnxruntime-cpu"
    on_cpu = True

    def open(self, model: Path) -> ModelSpec:
        """Load `model` and return the spec that it carries.

        Raises BackendError when ONNX Runtime is not installed, and ModelError unless the file is a
        whole single-file ONNX model with a spec that its tensors agree with.
        """
        onnx_file.runtime("cpu")
        self._session = onnx_file.load(model, _options(), "CPUExecutionProvider")
        self._spec = onnx_file.spec_of(model, self._session)
        self._cores = ThreadPoolExecutor(usable_cores(), "gtpick-infer")
        return self._spec

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        answers = list(self._cores.map(self._infer_one, tiles))
        return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])

    def close(self) -> None:
        """End the threads; see `Backend.close`."""
        self._cores.shutdown()

    def _infer_one(self, tile: FloatArray) -> tuple[FloatArray, FloatArray]:
        spec = self._spec
        try:
            scores, boxes = self._session.run([spec.score_name, spec.box_name], {spec.input_name: tile[None]})
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BackendError(f"ONNX Runtime failed on a tile ({onnx_file.said_by(error)})") from error
        return scores, boxes


def _options() -> "SessionOptions":
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options
