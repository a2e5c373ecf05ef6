"""Inference engines behind one small protocol. Each is imported when it is asked for."""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from gtpick_rt.backends.base import Backend
from gtpick_rt.engines.building import OnProgress
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.spec import ModelSpec

BACKENDS = ("auto", "cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx")
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx", "cuda": "onnxruntime"}
"""What a backend for GPUs needs, the fastest first."""


def open_backend(
    name: str, model: Path, on_build: OnProgress = lambda phase, done, of: None
) -> tuple[Backend, ModelSpec]:
    """Load `model` into the backend called `name`; "auto" takes the fastest that can be used here.

    What stands in the way of those that are installed is logged. `on_build` is told of an engine that is built first.

    Raises BackendError when there is no such backend here or what it needs is not installed, and ModelError when the
    model cannot be used.
    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is not in this version of gtpick-rt; choose from {', '.join(BACKENDS)}")
    for each in _faster_ones() if name == "auto" else ():
        try:
            return _open(each, model, on_build)
        except (BackendError, ModelError) as error:
            logging.getLogger("gtpick_rt").warning(f"backend {each} is not used: {error}")
    return _open("cpu" if name == "auto" else name, model, on_build)


def _faster_ones() -> Iterator[str]:
    """The backends whose library is installed and whose hardware is here, the fastest first."""
    from gtpick_rt.backends.cores import computes_bfloat16
    from gtpick_rt.backends.cuda import gpu_is_here

    if gpu_is_here():
        yield from (name for name, module in _MODULES.items() if find_spec(module) is not None)
    if find_spec("openvino") is not None and computes_bfloat16():
        yield "openvino"


def _open(name: str, model: Path, on_build: OnProgress) -> tuple[Backend, ModelSpec]:
    backend = _new(name, on_build)
    return backend, backend.open(model)


def _new(name: str, on_build: OnProgress) -> Backend:
    if name == "cpu":
        from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu()
    if name == "openvino":
        from gtpick_rt.backends.openvino import OpenVino

        return OpenVino()
    if name == "cuda":
        from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda

        return OnnxRuntimeCuda()
    from gtpick_rt.backends.tensorrt import TensorRt

    return TensorRt("tensorrt" if name == "tensorrt" else "tensorrt-rtx", on_build)
