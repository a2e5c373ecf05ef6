"""ONNX Runtime on an NVIDIA GPU: half precision, without an engine to build."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gtpick_rt.backends import onnx_file
from gtpick_rt.backends.base import AtOnce, Tiles
from gtpick_rt.backends.batching import OutOfMemoryError, halved, split
from gtpick_rt.backends.cuda import device_identity
from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_PROVIDER, _DEVICE = "CUDAExecutionProvider", "cuda"
_OPTIONS = {"enable_cuda_graph": "1"}
_ERROR = 3
"""ONNX Runtime's level of logging: its warnings are of the shapes that it reckons with on the CPU,
as it should."""
_MEMORY = re.compile(r"allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What ONNX Runtime, CUDA, cuBLAS and cuDNN say when there is not enough."""


def need_cuda() -> Any:
    """Import ONNX Runtime.

    Raises BackendError unless it is the one for GPUs; whether a GPU is here shows later.
    """
    onnxruntime = onnx_file.runtime("gpu")
    if _PROVIDER not in onnxruntime.get_available_providers():
        raise BackendError(
            "this ONNX Runtime is the one without CUDA, which hides the other: pip uninstall onnxruntime, then install "
            "the extra gpu: pip install '.[gpu]' in the clone"
        )
    return onnxruntime


class OnnxRuntimeCuda(AtOnce):
    """ONNX Runtime's CUDA execution provider on the half-precision file beside the model.

    Batches of each size have buffers of their own on the GPU and are a CUDA graph, which ONNX
    Runtime captures.
    """

    name = "onnxruntime-cuda-fp16"
    on_cpu = False
    version = ""
    """Of ONNX Runtime, driver and GPUs, once a model is open: what its answers depend on."""

    def open(self, model: Path) -> ModelSpec:
        """Load the half-precision file and return its spec.

        Raises BackendError unless ONNX Runtime runs it on the GPU, and ModelError when the file is
        missing or unfit.
        """
        onnxruntime = need_cuda()
        half, self._spec = onnx_file.half_beside(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()
        self._session = onnx_file.load(half, options, _PROVIDER, _OPTIONS)
        if self._session.get_providers()[0] != _PROVIDER:  # it says nothing, and would run on the CPU
            raise BackendError(
                "ONNX Runtime did not get the GPU: its driver, CUDA or cuDNN is missing or of another version than "
                f"ONNX Runtime {onnxruntime.__version__} needs: pip install '.[gpu]' in the clone, and see nvidia-smi"
            )
        self._sizes: tuple[int, ...] = PROFILE.batches
        self._slots: dict[int, _Slot] = {}
        self.version = f"{onnxruntime.__version__}, {device_identity()}"
        return self._spec

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(Tiles.of(tiles))

    def collect(self, submitted: Tiles) -> tuple[FloatArray, FloatArray]:
        """Run what was submitted; see `Backend.collect`.

        Batches are halved while memory is too small.
        """
        while True:
            try:
                parts = split(len(submitted), self._sizes)
                answers = [self._slot(size).run(submitted, part) for part, size in parts]
            except OutOfMemoryError as error:
                self._slots.pop(self._sizes[-1], None)
                self._sizes = halved(self._sizes, error)
            else:
                return np.concatenate([scores for scores, _ in answers]), np.concatenate(
                    [boxes for _, boxes in answers]
                )

    def _slot(self, size: int) -> "_Slot":
        if size not in self._slots:
            self._slots[size] = _Slot(self._session, self._spec, size)
        return self._slots[size]


class _Slot:
    """Batches of one size, and the buffers that they alone use: a CUDA graph needs its addresses to
    stay.
    """

    def __init__(self, session: "InferenceSession", spec: ModelSpec, size: int) -> None:
        from onnxruntime import OrtValue, RunOptions

        def buffer(*shape: int) -> Any:
            return OrtValue.ortvalue_from_shape_and_type((size, *shape), np.float32, _DEVICE)

        self._session, self._options = session, RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(size))
        self._host = np.zeros((size, 1, spec.tile_px, spec.tile_px), np.float32)
        with _errors_told(size):
            self._tiles = buffer(1, spec.tile_px, spec.tile_px)
            self._scores, self._boxes = buffer(spec.queries), buffer(spec.queries, 3)
            self._binding = session.io_binding()
            self._binding.bind_ortvalue_input(spec.input_name, self._tiles)
            self._binding.bind_ortvalue_output(spec.score_name, self._scores)
            self._binding.bind_ortvalue_output(spec.box_name, self._boxes)

    def run(self, tiles: Tiles, part: slice) -> tuple[FloatArray, FloatArray]:
        n = part.stop - part.start
        tiles.cut(part, self._host)
        with _errors_told(len(self._host)):
            self._tiles.update_inplace(self._host)
            self._session.run_with_iobinding(self._binding, self._options)
            self._binding.synchronize_outputs()
            return self._scores.numpy()[:n].copy(), self._boxes.numpy()[:n].copy()


@contextmanager
def _errors_told(size: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        if _MEMORY.search(str(error)):
            raise OutOfMemoryError(f"the GPU's memory is too small for a batch of {size} tiles") from error
        raise BackendError(
            f"ONNX Runtime failed on the GPU, in a batch of {size} tiles ({error}); run again: what was not committed "
            "is picked then"
        ) from error
