"""ONNX Runtime on an NVIDIA GPU: half precision, without an engine to build."""

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gtpick_rt.backends import onnx_file
from gtpick_rt.backends.base import Answers, Tiles
from gtpick_rt.backends.batching import OutOfMemoryError, halved, split
from gtpick_rt.backends.cuda import current_gpu, driver_version
from gtpick_rt.backends.deadline import DeadlineThread
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.backends.support import both_runtimes, install_command, reinstall_command, unsupported, versions_of
from gtpick_rt.errors import BackendError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.records import counted
from gtpick_rt.types import FloatArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_PROVIDER, _DEVICE = "CUDAExecutionProvider", "cuda"
_GRAPHS_FROM = (1, 30)
"""ONNX Runtime before replays CUDA graphs from host memory that it has given away (its pull request
32121): after a batch of another size answers may be wrong, without an error."""
_ERROR = 3
"""ONNX Runtime's level of logging: its warnings are of the shapes that it reckons with on the CPU,
as it should."""
_KERNELS = ("nvidia-cudnn", "nvidia-cublas", "nvidia-cuda-runtime")
"""Packages whose kernels it runs, and which are brought up to date apart from it."""
_MEMORY = re.compile(r"allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What ONNX Runtime, CUDA, cuBLAS and cuDNN say when there is not enough."""


def need_cuda() -> Any:
    """Import ONNX Runtime.

    Raises BackendError unless it is the one for GPUs; whether a GPU is here shows later.
    """
    onnxruntime = onnx_file.runtime("cuda", install_command("cuda", driver_version()))
    if _PROVIDER not in onnxruntime.get_available_providers():
        hides = ", which hides the other" if both_runtimes() else ""
        raise BackendError(
            f"this ONNX Runtime is the one without CUDA{hides}: {reinstall_command('cuda', driver_version())}"
        )
    return onnxruntime


def software(version: str) -> str:
    """This version of ONNX Runtime, and those of what it computes with: what answers depend on
    beside the card.
    """
    return ", ".join((version, *(f"{name} {found}" for name, found in versions_of(*_KERNELS).items())))


def provider_options(version: str) -> dict[str, str]:
    """How this version of ONNX Runtime is to run on the GPU: with CUDA graphs where it replays them
    soundly; without TF32, which would leave coordinates in float32 ten bits: 0.1 px of a tile.
    """
    sound = tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= _GRAPHS_FROM
    return {"enable_cuda_graph": str(int(sound)), "use_tf32": "0"}


class OnnxRuntimeCuda:
    """ONNX Runtime's CUDA execution provider on the half-precision file beside the model.

    Batches of each size have buffers of their own on the GPU and are a CUDA graph where ONNX
    Runtime can be trusted with them. It keeps graphs for each thread, so all runs in one thread:
    what is proved is what infers. What is submitted waits there for its turn, so that the GPU has
    the next batch without anybody's asking.
    """

    name = "onnxruntime-cuda-fp16"
    on_cpu = False
    version = ""
    """Of ONNX Runtime, its libraries, GPU and driver, once a model is open: what its answers depend
    on."""
    _session: Any = None
    _sizes: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}

    def open(self, model: Path) -> ModelSpec:
        """Load the half-precision file, make batches of all sizes ready, and return its spec.

        Raises BackendError unless ONNX Runtime runs it on the GPU, and ModelError when the file is
        missing or unfit.
        """
        self._thread = DeadlineThread("gtpick-cuda")
        try:
            return self._thread.call(partial(self._open, model))
        except BaseException:
            self.close()
            raise

    def _open(self, model: Path) -> ModelSpec:
        onnxruntime, gpu = need_cuda(), current_gpu()
        if reason := unsupported("cuda", gpu):
            raise BackendError(reason)
        half, self._spec = onnx_file.half_beside(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()
        version = str(onnxruntime.__version__)
        self._session = onnx_file.load(half, options, _PROVIDER, provider_options(version))
        if self._session.get_providers()[0] != _PROVIDER:  # it says nothing, and would run on the CPU
            raise BackendError(
                "ONNX Runtime did not get the GPU: its driver, CUDA or cuDNN is missing or of another version than "
                f"ONNX Runtime {version} needs: {reinstall_command('cuda', gpu.driver)}, and see nvidia-smi"
            )
        self.name = f"{self.name} on {gpu.name}"
        self.version = f"{software(version)}, {gpu}"
        self._sizes = PROFILE.batches
        side = self._spec.tile_px
        blank = Tiles.of(np.zeros((max(self._sizes), 1, side, side), np.float32))
        self._in_memory(lambda: [self._slot(size).run(blank, slice(0, size)) for size in self._sizes])
        return self._spec

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> "Future[Answers]":
        """Give tiles to the thread, which cuts them out in their turn; see `Backend.submit`."""
        return self._thread.begin(partial(self._run, tiles))

    def collect(self, submitted: "Future[Answers]") -> Answers:
        """Wait for the answers to what was submitted; see `Backend.collect`."""
        return submitted.result()

    def _run(self, tiles: Tiles) -> Answers:
        """Run in batches, which are halved while memory is too small."""
        answers = self._in_memory(
            lambda: [self._slot(size).run(tiles, part) for part, size in split(len(tiles), self._sizes)]
        )
        return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])

    def _in_memory(self, run: Callable[[], list[Answers]]) -> list[Answers]:
        """Run, with smaller batches while memory is too small."""
        while True:
            try:
                return run()
            except OutOfMemoryError as error:
                self._slots.pop(self._sizes[-1], None)
                self._sizes = halved(self._sizes, error)

    def close(self) -> None:
        """Let go of the session, its graphs and its buffers, once what was submitted is done; see
        `Backend.close`.
        """
        if self._thread.ended:
            return
        self._thread.call(self._let_go)
        self._thread.close()

    def _let_go(self) -> None:
        self._slots.clear()
        self._session = None

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

    def run(self, tiles: Tiles, part: slice) -> Answers:
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
            raise OutOfMemoryError(f"the GPU's memory is too small for a batch of {counted(size, 'tile')}") from error
        said = onnx_file.said_by(error)
        raise BackendError(
            f"ONNX Runtime failed on the GPU, in a batch of {counted(size, 'tile')} ({said}); run again: what was "
            "not committed is picked then"
        ) from error
