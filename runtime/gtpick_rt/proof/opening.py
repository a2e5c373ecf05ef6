"""Open a backend or a picker by name: what is chosen is built if need be, opened, and proved."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.engines.building import OnProgress
from gtpick_rt.backends.engines.libraries import LibraryName
from gtpick_rt.detection.picker import Picker, check_diameter
from gtpick_rt.detection.specimen import Contrast
from gtpick_rt.detection.survey import survey
from gtpick_rt.errors import BackendError, ModelError, UsageError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.guarding import guard
from gtpick_rt.proof.preparing import open_preparer
from gtpick_rt.proof.proving import prove_once
from gtpick_rt.types import Micrograph

if TYPE_CHECKING:
    from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda
    from gtpick_rt.backends.openvino import OpenVino
    from gtpick_rt.backends.triton import Triton

BACKENDS = ("auto", "cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx")
"""Of this machine."""
SERVER = "triton"
"""The backend that is a server, with its address: "triton:HOST:PORT"."""
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx", "cuda": "onnxruntime"}
"""What a backend for GPUs needs, the fastest first."""

_LOG = logging.getLogger("gtpick_rt")
Opened = tuple[Backend, ModelSpec]


def _untold(phase: str, done: int, of: int) -> None:
    pass


def open_picker(
    diameter_A: float | None = None,
    *,
    contrast: Contrast = "dark",
    micrographs: Iterable[Micrograph] | None = None,
    model: str | None = None,
    backend: str = "auto",
    on_build: OnProgress = _untold,
) -> Picker:
    """Load a shipped model by name, or an ONNX file by path; by default the model that ships.

    A few of `micrographs` are surveyed for the contrast of the particles and, unless it is given,
    their diameter; what was found is kept as `Picker.survey`. Without `micrographs` the diameter
    must be given, and `contrast` holds. `on_build` is told of an engine that is built first.

    Raises ModelError or BackendError, and UsageError when the diameter is neither given nor found.
    """
    if diameter_A is not None:
        check_diameter(diameter_A)
    path = resolve_model(model)
    loaded, spec = open_backend(backend, path, on_build)
    with _closed_on_error(loaded):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        found = None
        if micrographs is not None:
            found = survey(loaded, spec, micrographs, diameter_A)
            diameter_A, contrast = found.diameter_A, found.contrast
        if diameter_A is None:
            raise UsageError("give the particles' diameter in Å, or micrographs to measure it on")
        preparer = open_preparer(loaded, path, spec, on_build)
        return Picker(loaded, spec, diameter_A, contrast, model_sha256=sha256, survey=found, preparer=preparer)


def open_backend(name: str, model: Path, on_build: OnProgress = _untold) -> Opened:
    """Load `model` into the backend called `name`; "auto" takes the fastest that can be used here.

    What stands in the way of those that are installed is logged. `on_build` is told of an engine
    that is built first.

    Raises BackendError when there is no such backend here, what it needs is not installed or it
    does not pick as the reference does, and ModelError when the model cannot be used.
    """
    if name.partition(":")[0] == SERVER:
        return _open_triton(name.partition(":")[2], model)
    if name not in BACKENDS:
        raise BackendError(
            f"backend {name!r} is not in this version of gtpick-rt; choose from {', '.join((*BACKENDS, SERVER))}"
        )
    for each in _faster_ones() if name == "auto" else ():
        try:
            return _open(each, model, on_build)
        except (BackendError, ModelError) as error:
            _LOG.warning(f"backend {each} is not used: {error}")
    return _open("cpu" if name == "auto" else name, model, on_build)


def _faster_ones() -> Iterator[str]:
    """The backends whose library is installed and whose hardware is here, the fastest first."""
    from gtpick_rt.backends.cores import computes_bfloat16
    from gtpick_rt.backends.cuda import gpu_is_here

    if gpu_is_here():
        yield from (name for name, module in _MODULES.items() if find_spec(module) is not None)
    if find_spec("openvino") is not None and computes_bfloat16():
        yield "openvino"


def _open(name: str, model: Path, on_build: OnProgress) -> Opened:
    from gtpick_rt.backends.cuda import watch_memory

    openers: dict[str, Callable[[Path], Opened]] = {
        "cpu": _open_cpu,
        "openvino": _open_openvino,
        "cuda": _open_cuda,
        "tensorrt": partial(_open_tensorrt, "tensorrt", on_build),
        "tensorrt-rtx": partial(_open_tensorrt, "tensorrt-rtx", on_build),
    }
    memory_taken = watch_memory(name)
    opened = openers[name](model)
    if memory := memory_taken():
        _LOG.info(
            f"{opened[0].name} takes {memory.taken / 1e6:.0f} MB of the GPU's memory, of which "
            f"{memory.in_use / 1e9:.1f} of {memory.total / 1e9:.1f} GB are in use"
        )
    return opened


def _open_cpu(model: Path) -> Opened:
    """Open the reference, which needs no proof."""
    from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu

    backend = OnnxRuntimeCpu()
    return backend, backend.open(model)


def _open_openvino(model: Path) -> Opened:
    from gtpick_rt.backends.openvino import OpenVino

    return _proved(OpenVino(), model)


def _open_cuda(model: Path) -> Opened:
    from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda

    return _proved(OnnxRuntimeCuda(), model)


def _open_triton(url: str, model: Path) -> Opened:
    """Open the server's model, which need not be that of this file: it is proved, and guarded."""
    from gtpick_rt.backends.triton import Triton

    if not url:
        raise BackendError("backend triton is a server: say where it is, --url HOST:PORT")
    return _proved(Triton(url), model)


def _proved(backend: "OpenVino | OnnxRuntimeCuda | Triton", model: Path) -> Opened:
    spec = backend.open(model)
    with _closed_on_error(backend):
        prove_once(backend, model, backend.version)
        return backend if backend.on_cpu else guard(backend, model), spec


def _open_tensorrt(name: LibraryName, on_build: OnProgress, model: Path) -> Opened:
    """Open the engine of the half-precision file beside `model`; one that is not there yet is built
    and proved.
    """
    from gtpick_rt.backends.cuda import current_gpu
    from gtpick_rt.backends.onnx_file import half_beside
    from gtpick_rt.backends.support import unsupported
    from gtpick_rt.backends.tensorrt import TensorRt
    from gtpick_rt.proof.engines import engine_for, load_engine, prove

    gpu = current_gpu()
    if reason := unsupported(name, gpu):
        raise BackendError(reason)
    half, spec = half_beside(model)
    proof = partial(prove, model=model, name=name)
    find = partial(engine_for, half, name, gpu, proof, on_progress=on_build)
    backend = TensorRt(name)
    with _closed_on_error(backend):
        engine = load_engine(half.name, find, lambda plan, kernels: backend.load(plan, spec, kernels))
        backend.warm()
        engine.keep_kernels(backend.kernels)
        return guard(backend, model), spec


@contextmanager
def _closed_on_error(backend: Backend) -> Iterator[None]:
    """What was opened and cannot be handed on is closed."""
    try:
        yield
    except BaseException:
        backend.close()
        raise
