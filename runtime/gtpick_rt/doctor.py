"""What runs models here: the GPUs, each backend, and the engines that are kept."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from gtpick_rt.backends.cuda import Cuda, driver_version, gpu_is_here, watch_memory
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.libraries import LIBRARIES, LibraryName, library
from gtpick_rt.backends.engines.records import Gpu, superseded
from gtpick_rt.backends.onnxruntime_cuda import need_cuda
from gtpick_rt.backends.support import GPU_BACKENDS, unsupported
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.files import half_of
from gtpick_rt.proof.engines import key_of
from gtpick_rt.proof.opening import BACKENDS, open_backend

NO_GPU = "no NVIDIA GPU is here, or its driver is not loaded"
_LIBRARIES: dict[str, LibraryName] = {name: name for name in LIBRARIES}
_SMI = ("--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
_SMI_S = 20


@dataclass(frozen=True, kw_only=True)
class BackendState:
    """Whether one backend can be used here."""

    name: str
    usable: bool
    detail: str
    """What it is, or why it cannot be used and what to do."""
    tile_ms: float | None = None
    """Of one tile alone, in a second run; None where none was run."""
    memory_bytes: int | None = None
    """Of the GPU, for the network and the buffers of all sizes of batch; None where none was
    opened."""


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """One engine of the cache."""

    file: str
    size: int
    """Bytes."""
    library: str
    gpu: str
    built_at: str
    problem: str
    """Why it will not be used."""
    superseded: str
    """In what it is older than the last engine of its library on its GPU; empty where it is not."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found."""

    driver: str
    """Version of NVIDIA's driver; empty where none is loaded."""
    gpus: list[Gpu]
    gpu_problem: str
    """Why TensorRT has no GPU to use; empty where it has."""
    model: str
    backends: list[BackendState]
    engine_folder: str
    engines: list[EngineState] = field(default_factory=list)
    engine_problem: str = ""
    """Why the folder cannot be trusted."""


def examine(model: Path) -> Diagnosis:
    """Look at the machine, and run one tile of `model` on every backend that can be used.

    Builds no engine.
    """
    gpus, gpu_problem = _find_gpus()
    cache = EngineCache()
    engines, problem = _engines(cache)
    return Diagnosis(
        driver=driver_version() or (gpus[0].driver if gpus else ""),
        gpus=gpus,
        gpu_problem=gpu_problem,
        model=model.name,
        backends=[_examine(name, model, gpus, gpu_problem, cache) for name in BACKENDS if name != "auto"],
        engine_folder=str(cache.folder),
        engines=engines,
        engine_problem=problem,
    )


def _find_gpus() -> tuple[list[Gpu], str]:
    if not gpu_is_here():
        return [], NO_GPU
    try:
        return Cuda().gpus(), ""
    except BackendError as error:
        return _ask_smi(), str(error)


def _ask_smi() -> list[Gpu]:
    """What nvidia-smi lists, where there is one: it comes with the driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *_SMI], capture_output=True, text=True, timeout=_SMI_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for line in done.stdout.splitlines() if (gpu := _listed_gpu(line)) is not None]


def _listed_gpu(line: str) -> Gpu | None:
    """Read a line of nvidia-smi; None where it does not know the compute capability."""
    found = re.fullmatch(r"(.+), (\d+)\.(\d+), (.+)", line.strip())
    return found and Gpu(found[1], (int(found[2]), int(found[3])), found[4])


def _examine(name: str, model: Path, gpus: list[Gpu], gpu_problem: str, cache: EngineCache) -> BackendState:
    if name in GPU_BACKENDS and gpu_problem == NO_GPU:  # what to install depends on its driver
        return BackendState(name=name, usable=False, detail=NO_GPU)
    engine = _LIBRARIES.get(name)
    problems = [reason for each in GPU_BACKENDS if each == name and gpus and (reason := unsupported(each, gpus[0]))]
    if problems:
        return BackendState(name=name, usable=False, detail=problems[0])
    if engine is not None:
        problems = _problems(partial(library, engine), gpu_problem)
        if not problems and not _is_built(engine, model, gpus[0], cache):
            todo = f"no engine of {model.name} yet: gtpick-rt build --backend {name}, or the first pick, builds it"
            return BackendState(name=name, usable=True, detail=todo)
    if name == "cuda":
        problems = _problems(need_cuda, "" if gpus else gpu_problem)
    if not problems:
        try:
            return _run_one_tile(name, model)
        except (BackendError, ModelError) as error:
            problems = [str(error)]
    return BackendState(name=name, usable=False, detail="; ".join(problems))


def _problems(need: Callable[[], object], gpu_problem: str) -> list[str]:
    """What is wrong with a library, and with the GPU."""
    try:
        need()
    except BackendError as error:
        return [str(error), gpu_problem] if gpu_problem else [str(error)]
    return [gpu_problem] if gpu_problem else []


def _is_built(name: LibraryName, model: Path, gpu: Gpu, cache: EngineCache) -> bool:
    """Whether the cache has an engine of the model as it is now, of this version for this GPU."""
    try:
        wanted = key_of(half_of(model).read_bytes(), name, gpu)
        entries = cache.entries()
    except (BackendError, ModelError, OSError):
        return False
    return any(entry.record is not None and not entry.problem and entry.record.key == wanted for entry in entries)


def _run_one_tile(name: str, model: Path) -> BackendState:
    memory_taken = watch_memory(name)
    backend, spec = open_backend(name, model)
    tile = np.random.default_rng(0).standard_normal((1, 1, spec.tile_px, spec.tile_px), np.float32)
    with closing(backend):
        backend.infer(tile)  # the first run allocates, compiles and captures
        began = time.perf_counter()
        scores, _ = backend.infer(tile)
        tile_ms = 1e3 * (time.perf_counter() - began)
        memory = memory_taken()
    if not np.isfinite(scores).all():
        raise BackendError(f"{backend.name} answers a tile of noise with numbers that are none")
    taken = None if memory is None else memory.taken
    return BackendState(name=name, usable=True, detail=backend.name, tile_ms=tile_ms, memory_bytes=taken)


def _engines(cache: EngineCache) -> tuple[list[EngineState], str]:
    try:
        entries = cache.entries()
    except BackendError as error:
        return [], str(error)
    states, left = [], superseded(entries)
    for entry in entries:
        record = entry.record
        states.append(
            EngineState(
                file=entry.file.name,
                size=entry.size,
                library=f"{record.key.library} {record.key.version}" if record else "",
                gpu=record.key.gpu if record else "",
                built_at=record.built_at if record else "",
                problem=entry.problem,
                superseded=left.get(entry.file, ""),
            )
        )
    return states, ""
