"""Which drivers, CUDA versions, cards and extras go together; no library is loaded to tell.

| extra | CUDA | driver from | brings |
|---|---|---|---|
| cuda12 | 12 | 525, of tensorrt 535 | the backends cuda and tensorrt |
| cuda13 | 13 | 580 | the same; on Python 3.10 tensorrt alone, for ONNX Runtime has none |
| rtx12 | 12 | 525 | tensorrt-rtx, beside the extra cpu |
| rtx | 13 | 580 | the same |

Sources: NVIDIA's tables of CUDA's minor version compatibility and the support matrices of TensorRT
10.12 to 11.4 and TensorRT-RTX 1.4 to 1.7; for compute capability 8.0 and 9.0 also what TensorRT-RTX
1.7 builds for. cuDNN, without which the backend cuda is not, has had no code for cards before
compute capability 7.5 since its version 9.11, and may end the process there instead of failing.
"""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Literal, get_args

from gtpick_rt.backends.engines.records import Gpu

GpuBackend = Literal["cuda", "tensorrt", "tensorrt-rtx"]
GPU_BACKENDS: tuple[GpuBackend, ...] = get_args(GpuBackend)
"""By name, those that run on NVIDIA GPUs."""
DRIVERS = {13: 580, 12: 525}
"""The oldest branch of the driver that runs a major version of CUDA, the newest first."""
_BRANCHES = {13000: 580, 12020: 535, 12000: 525}
"""By the version of CUDA that it runs, the first branch of the driver."""
_BOTH_RUNTIMES = "pip uninstall --yes onnxruntime onnxruntime-gpu && "
"""They are one module, of which the one installed later hides the other; what is left of either is
not whole."""


@dataclass(frozen=True)
class _Needs:
    extras: dict[int, str]
    """By major version of CUDA."""
    least: tuple[int, int]
    """Compute capability."""
    driver: int = DRIVERS[12]
    """The oldest branch, with CUDA 12."""
    only: frozenset[tuple[int, int]] = frozenset()
    """Where there are any, these alone."""


_NEEDS: dict[GpuBackend, _Needs] = {
    "cuda": _Needs({13: "cuda13", 12: "cuda12"}, (7, 5)),
    "tensorrt": _Needs({13: "cuda13", 12: "cuda12"}, (7, 5), driver=535),
    "tensorrt-rtx": _Needs(
        {13: "rtx", 12: "rtx12"}, (8, 0), only=frozenset({(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)})
    ),
}


def install_command(backend: GpuBackend, driver: str) -> str:
    """The command that adds what a backend needs with this driver, in a clone, to what is
    installed, so that there is one ONNX Runtime; with an unknown driver, for the newest.
    """
    extra = _extra(backend, driver)
    if backend == "tensorrt-rtx":
        return _pip(_with_runtime(extra))
    return reinstall_command(backend, driver) if _version("onnxruntime") else _pip(extra)


def reinstall_command(backend: GpuBackend, driver: str) -> str:
    """The same where another extra, or another ONNX Runtime, is in its way."""
    extra = _extra(backend, driver)
    return _BOTH_RUNTIMES + _pip(f"cpu,{extra}" if backend == "tensorrt-rtx" else extra)


def way_to_add(extra: str) -> str:
    """What a message says where an extra is missing: the command that adds it to what is installed,
    with the extra cpu where there is no ONNX Runtime yet.
    """
    return f"install the extra {extra}: {_pip(_with_runtime(extra))}"


def _with_runtime(extra: str) -> str:
    there = _version("onnxruntime") or _version("onnxruntime-gpu")
    return extra if there or extra == "cpu" else f"cpu,{extra}"


def _pip(extras: str) -> str:
    return f"pip install '.[{extras}]' in the clone"


def _extra(backend: GpuBackend, driver: str) -> str:
    extras = _NEEDS[backend].extras
    return extras[_cuda_of(driver) or max(extras)]


def unsupported(backend: GpuBackend, gpu: Gpu) -> str:
    """Why a backend cannot run on this GPU with its driver as it is installed here, and the way
    out; empty where nothing speaks against it.
    """
    needs, capability = _NEEDS[backend], gpu.compute_capability
    card = f"{gpu.name} has compute capability {capability[0]}.{capability[1]}"
    if capability < needs.least:
        return f"{card}, and {backend} needs {needs.least[0]}.{needs.least[1]} or more: pick with {_instead(gpu)}"
    if needs.only and capability not in needs.only:
        return f"{card}, for which {backend} is not made: pick with {_instead(gpu)}"
    if not _is_new_enough(gpu.driver, needs):
        return (
            f"driver {gpu.driver} is older than {needs.driver}, the first for {backend} with CUDA 12: install a newer "
            f"one, or pick with {_instead(gpu)}"
        )
    usable, installed = _cuda_of(gpu.driver), installed_cuda()
    if usable is not None and installed is not None and installed > usable:
        return (
            f"what is installed is for CUDA {installed}, and driver {gpu.driver} runs CUDA {usable}: "
            f"{reinstall_command(backend, gpu.driver)}, or install driver {DRIVERS.get(installed)} or newer"
        )
    return ""


def _instead(gpu: Gpu) -> str:
    """The options of `pick` that the card and its driver allow."""
    able = [
        name
        for name, needs in _NEEDS.items()
        if gpu.compute_capability >= needs.least and not needs.only and _is_new_enough(gpu.driver, needs)
    ]
    return " or ".join(f"--backend {name}" for name in (*reversed(able), "cpu"))


def _is_new_enough(driver: str, needs: _Needs) -> bool:
    """Whether a driver is; one that is not known may be."""
    branch = _branch(driver)
    return branch is None or branch >= needs.driver


def installed_cuda() -> int | None:
    """The major version of CUDA that was installed with an extra; None without one."""
    found = _version("cuda-bindings")
    return int(found.split(".")[0]) if found else None


def both_runtimes() -> bool:
    """Whether ONNX Runtime is installed twice, for CPUs and for GPUs."""
    return bool(_version("onnxruntime") and _version("onnxruntime-gpu"))


def versions_of(*beginnings: str) -> dict[str, str]:
    """The versions of all packages that are installed and whose names begin so, by name."""
    named = (((each.name or "").lower().replace("_", "-"), each) for each in distributions())
    return dict(sorted((name, each.version) for name, each in named if name.startswith(beginnings)))


def _version(package: str) -> str:
    """Of a package that is installed; empty where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cuda_of(driver: str) -> int | None:
    """The newest major version of CUDA that the driver runs; None where it is too old or not
    known.
    """
    branch = _branch(driver)
    return None if branch is None else next((cuda for cuda, least in DRIVERS.items() if branch >= least), None)


def _branch(driver: str) -> int | None:
    """580 of "580.159.03"; of "CUDA 12040", which is what it runs, the first branch that does."""
    if found := re.match(r"CUDA (\d+)", driver):
        return next((branch for cuda, branch in _BRANCHES.items() if int(found[1]) >= cuda), 0)
    found = re.match(r"(\d+)\.", driver)
    return int(found[1]) if found else None
