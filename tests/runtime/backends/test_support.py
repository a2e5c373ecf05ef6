"""Which drivers, cards and extras go together, and the command that mends what does not."""

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from gtpick_rt.backends import support
from gtpick_rt.backends.engines.records import Gpu
from gtpick_rt.backends.support import (
    GPU_BACKENDS,
    GpuBackend,
    install_command,
    reinstall_command,
    unsupported,
    way_to_add,
)

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
BRING_ONNX_RUNTIME = {"cpu", "cuda12", "cuda13"}


@pytest.fixture
def extras() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    return found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, by name; nothing yet."""
    versions: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(support, "version", version)
    return versions


@pytest.mark.usefixtures("installed")
def test_each_extra_of_the_table_is_one(extras: dict[str, list[str]]) -> None:
    for backend in GPU_BACKENDS:
        for driver in ("580.1", "535.1", ""):
            (names,) = re.findall(r"\.\[(.*)\]", install_command(backend, driver))
            assert set(names.split(",")) <= extras.keys()
            assert len(set(names.split(",")) & BRING_ONNX_RUNTIME) == 1, "one ONNX Runtime"


def test_only_three_extras_bring_onnx_runtime(extras: dict[str, list[str]]) -> None:
    """All others can be combined with each of them."""
    for name, needs in extras.items():
        has_runtime = any(re.match(r"onnxruntime\b|gtpick-rt\[.*\b(cpu|cuda1[23])\b", need) for need in needs)
        assert has_runtime == (name in BRING_ONNX_RUNTIME | {"dev"}), name


@pytest.mark.parametrize(
    ("there", "command"),
    [
        ("", "pip install '.[cpu,train]' in the clone"),
        ("onnxruntime", "pip install '.[train]' in the clone"),
        ("onnxruntime-gpu", "pip install '.[train]' in the clone"),
    ],
)
def test_an_extra_is_added_to_what_is_there_and_never_a_second_onnx_runtime(
    there: str, command: str, installed: dict[str, str]
) -> None:
    installed[there] = "1.31.0"
    assert way_to_add("train") == f"install the extra train: {command}"
    assert way_to_add("cpu") == "install the extra cpu: pip install '.[cpu]' in the clone"


@pytest.mark.parametrize(
    ("driver", "extra"),
    [
        ("535.54.03", "cuda12"),
        ("575.57", "cuda12"),
        ("580.159.03", "cuda13"),
        ("600.1", "cuda13"),
        ("CUDA 12040", "cuda12"),
        ("CUDA 13000", "cuda13"),
        ("", "cuda13"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_driver_decides_which_cuda_is_installed(driver: str, extra: str) -> None:
    assert install_command("tensorrt", driver) == f"pip install '.[{extra}]' in the clone"


def test_both_runtimes_are_removed_before_one_is_installed(installed: dict[str, str]) -> None:
    command = "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install '.[cuda12]' in the clone"
    assert reinstall_command("cuda", "535.1") == command
    installed["onnxruntime"] = "1.32.0"
    assert install_command("tensorrt", "535.1") == command


def test_tensorrt_rtx_is_added_to_the_onnx_runtime_that_is_there(installed: dict[str, str]) -> None:
    assert "'.[cpu,rtx]'" in install_command("tensorrt-rtx", "580.1")
    installed["onnxruntime-gpu"] = "1.31.0"
    assert install_command("tensorrt-rtx", "580.1") == "pip install '.[rtx]' in the clone"
    assert "'.[cpu,rtx12]'" in reinstall_command("tensorrt-rtx", "535.1")


@pytest.mark.parametrize(
    ("backend", "capability", "told"),
    [
        ("tensorrt-rtx", (7, 5), "7.5, and tensorrt-rtx needs 8.0 or more: pick with --backend tensorrt or --backend"),
        ("tensorrt-rtx", (9, 0), "9.0, for which tensorrt-rtx is not made: pick with --backend tensorrt or"),
        ("tensorrt-rtx", (10, 0), "10.0, for which tensorrt-rtx is not made"),
        *(("tensorrt-rtx", each, "") for each in ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))),
        ("tensorrt", (7, 0), "7.0, and tensorrt needs 7.5 or more: pick with --backend cpu"),
        ("tensorrt", (7, 5), ""),
        ("tensorrt", (9, 0), ""),
        ("cuda", (7, 5), ""),
        ("cuda", (7, 0), "7.0, and cuda needs 7.5 or more: pick with --backend cpu"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_card_that_a_backend_is_not_made_for_is_told_with_what_is(
    backend: GpuBackend, capability: tuple[int, int], told: str
) -> None:
    found = unsupported(backend, Gpu("Card", capability, "580.1"))
    assert told in found
    assert bool(told) == bool(found)


@pytest.mark.parametrize(
    ("driver", "bindings", "told"),
    [
        (
            "470.256.02",
            "12.9.1",
            "driver 470.256.02 is older than (525|535), the first for .* install .* pick with --backend cpu",
        ),
        ("550.54", "13.1.0", "is for CUDA 13, and driver 550.54 runs CUDA 12: pip uninstall .*cuda12.*driver 580 or"),
        ("550.54", "12.9.1", ""),
        ("580.1", "12.9.1", ""),
        ("580.1", None, ""),
        ("", "13.1.0", ""),
    ],
)
def test_a_driver_that_is_too_old_is_told_with_the_command_that_helps(
    driver: str, bindings: str | None, told: str, installed: dict[str, str]
) -> None:
    installed |= {"cuda-bindings": bindings} if bindings else {}
    assert re.search(told, unsupported("cuda", Gpu("Card", (8, 6), driver)))
    assert bool(told) == bool(unsupported("tensorrt", Gpu("Card", (8, 6), driver)))


@pytest.mark.parametrize(
    ("backend", "driver", "told"),
    [
        (
            "tensorrt",
            "530.30.02",
            "530.30.02 is older than 535, the first for tensorrt .* --backend cuda or --backend cpu",
        ),
        ("tensorrt", "CUDA 12010", "CUDA 12010 is older than 535, the first for tensorrt with CUDA 12"),
        ("tensorrt", "535.54.03", ""),
        ("tensorrt", "CUDA 12020", ""),
        ("cuda", "525.60.13", ""),
        ("cuda", "CUDA 12000", ""),
        ("cuda", "CUDA 11080", "CUDA 11080 is older than 525, the first for cuda with CUDA 12"),
        ("tensorrt-rtx", "525.60.13", ""),
    ],
)
@pytest.mark.usefixtures("installed")
def test_each_backend_needs_a_driver_of_its_own(backend: GpuBackend, driver: str, told: str) -> None:
    found = unsupported(backend, Gpu("Card", (8, 6), driver))
    assert re.search(told, found)
    assert bool(told) == bool(found)


def test_no_bindings_of_cuda_are_installed_that_keep_all_threads_waiting(extras: dict[str, list[str]]) -> None:
    """Before 12.9.1 they hold the interpreter's lock while they wait for the GPU."""
    bindings = {need for needs in extras.values() for need in needs if need.startswith("cuda-python")}
    assert bindings == {"cuda-python>=12.9.1,<13", "cuda-python>=13"}
