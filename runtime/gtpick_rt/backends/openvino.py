"""OpenVINO on the CPU in bfloat16: for processors that compute in it, where it takes two thirds of
the time.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gtpick_rt.backends.base import AtOnce
from gtpick_rt.backends.cores import usable_cores
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray


class OpenVino(AtOnce):
    """OpenVINO's CPU plugin, one tile at a time on each core."""

    name = "openvino-bf16"
    on_cpu = True
    version = ""
    """Of OpenVINO, once a model is open."""
    _jobs: Any

    def open(self, model: Path) -> ModelSpec:
        """Load `model` and return its spec.

        Raises BackendError when OpenVINO is not installed or the processor does not compute in
        bfloat16, and ModelError when the model cannot be used.
        """
        openvino, cores, spec = _library(), usable_cores(), read_spec(model)
        core = openvino.Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this processor does not compute in bfloat16, so OpenVINO is no faster: --backend cpu")
        options = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "bf16"}
        try:
            network = core.read_model(model)
            network.reshape({spec.input_name: [1, 1, spec.tile_px, spec.tile_px]})
            self._jobs = openvino.AsyncInferQueue(core.compile_model(network, "CPU", options), cores)
        except RuntimeError as error:
            raise ModelError(f"{model}: OpenVINO cannot load it ({error})") from error
        self._spec = spec
        self.version = str(openvino.__version__)
        return spec

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        spec = self._spec
        scores = np.empty((len(tiles), spec.queries), np.float32)
        boxes = np.empty((len(tiles), spec.queries, 3), np.float32)

        def keep(request: Any, place: int) -> None:
            scores[place] = request.get_tensor(spec.score_name).data
            boxes[place] = request.get_tensor(spec.box_name).data

        self._jobs.set_callback(keep)
        try:
            for place in range(len(tiles)):
                self._jobs.start_async({spec.input_name: tiles[place : place + 1]}, place)
            self._jobs.wait_all()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed ({error})") from error
        return scores, boxes

    def close(self) -> None:
        """Let go of the network, its threads and its buffers; see `Backend.close`."""
        self._jobs = None


def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"the openvino backend needs OpenVINO: {way_to_add('openvino')}") from error
    return openvino
