"""What is asked of CUDA before a backend runs: which GPUs there are, and why there is none."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gtpick_rt.backends import cuda
from gtpick_rt.backends.cuda import current_gpu
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.errors import BackendError


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel tells the driver's version; nothing is there yet."""
    file = tmp_path / "version"
    monkeypatch.setattr(cuda, "_DRIVER", file)
    monkeypatch.setattr(cuda, "_DEVICES", ())
    return file


@pytest.mark.parametrize(
    ("line", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.03  Tue Sep  9\n", "580.159.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57  Release Build\n", "575.57"),
        (None, "CUDA 13000"),
    ],
)
def test_the_gpu_is_known_by_name_capability_and_driver(
    line: str | None, driver: str, kernel: Path, cudart: Any
) -> None:
    if line is not None:
        kernel.write_text(line)
    assert current_gpu() == Gpu("Paper GPU", (8, 6), driver)


@pytest.mark.usefixtures("cudart")
def test_a_gpu_is_found_by_others_where_it_is_plugged_in() -> None:
    assert cuda.Cuda().pci_bus_id() == b"0000:3b:00.0"


def test_where_the_driver_shows_there_may_be_a_gpu(kernel: Path) -> None:
    assert not cuda.gpu_is_here()
    kernel.touch()
    assert cuda.gpu_is_here()
    assert cuda.driver_version() == ""


@pytest.mark.usefixtures("kernel")
def test_without_a_gpu_the_message_says_so(cudart: Any) -> None:
    cudart.count = 0
    with pytest.raises(BackendError, match="no NVIDIA GPU is visible"):
        current_gpu()
    cudart.failures["cudaGetDeviceCount"] = cudart.cudaError_t.cudaErrorNoDevice
    with pytest.raises(BackendError, match=r"no usable NVIDIA GPU \(cudaErrorNoDevice\)"):
        current_gpu()


@pytest.mark.usefixtures("kernel")
def test_without_a_driver_the_message_says_so(cudart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cudart, "cudaDriverGetVersion", no_library, raising=False)
    with pytest.raises(BackendError, match=r"no usable NVIDIA driver \(Failed to dlopen libcuda"):
        current_gpu()


def test_without_cuda_python_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(
        BackendError, match=r"cuda-python is not usable here.*pip install '\.\[cuda13\]'.*pip install '\.\[rtx\]'"
    ):
        current_gpu()
