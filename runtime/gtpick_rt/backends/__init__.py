"""Inference engines behind one small protocol."""

from pathlib import Path

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.errors import BackendError
from gtpick_rt.spec import ModelSpec

_BACKENDS: dict[str, type[Backend]] = {"auto": OnnxRuntimeCpu, "cpu": OnnxRuntimeCpu}


def open_backend(name: str, model: Path) -> tuple[Backend, ModelSpec]:
    """Load `model` into the backend called `name`; "auto" takes the best one there is.

    Raises BackendError when there is no such backend here or what it needs is not installed, and ModelError when the
    model cannot be used.
    """
    if name not in _BACKENDS:
        raise BackendError(f"backend {name!r} is not in this version of gtpick-rt; choose from {', '.join(_BACKENDS)}")
    backend = _BACKENDS[name]()
    return backend, backend.open(model)
