"""The doctor says what runs here and what does not, and how to change that."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from gtpick_rt import doctor
from gtpick_rt.backends import cuda
from gtpick_rt.backends.engines.building import FLAGS
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.backends.engines.records import EngineKey, Gpu, Record
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cli.doctor import _print
from gtpick_rt.cli.main import app
from gtpick_rt.doctor import BackendState, examine
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import sample_sha256
from gtpick_rt.models.spec import ModelSpec

GPU = Gpu("Paper GPU", (8, 6), "580.1")


class Library:
    __version__ = "11.4.0"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with ONNX Runtime for the CPU alone, without a GPU, TensorRT or engines."""

    def no_gpu() -> None:
        raise BackendError("cuda-python is not usable here")

    def no_library(name: str) -> None:
        raise BackendError(f"{name} is not usable here: pip install '.[cuda13]' in the clone")

    monkeypatch.setattr(doctor, "gpu_is_here", lambda: False)
    monkeypatch.setattr(doctor, "Cuda", no_gpu)
    monkeypatch.setattr(doctor, "library", no_library)
    monkeypatch.setattr(doctor, "driver_version", lambda: "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a GPU and TensorRT."""

    class Cuda:
        def gpus(self) -> list[Gpu]:
            return [GPU]

    monkeypatch.setattr(doctor, "gpu_is_here", lambda: True)
    monkeypatch.setattr(doctor, "Cuda", Cuda)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(doctor, "library", lambda name: Library)
    monkeypatch.setattr("gtpick_rt.proof.engines.library", lambda name: Library)


@pytest.fixture
def opened(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the backends that are opened; none is one."""
    names = []

    def open_backend(name: str, model: Path) -> tuple[ScriptedBackend, ModelSpec]:
        names.append(name)
        return ScriptedBackend(lambda tiles: (tiles[:, 0, 0], tiles), f"paper-{name}"), spec

    monkeypatch.setattr(doctor, "open_backend", open_backend)
    return names


@pytest.fixture
def keep_engine(tiny_model: Path) -> Callable[..., None]:
    """A function that puts an engine of the model's half-precision file into the cache, with
    changes to its key.
    """
    half = tiny_model.with_name("tiny.fp16.onnx")
    shutil.copy(tiny_model, half)

    def keep(built_at: str = "2026-11-23", **changes: str) -> None:
        key = {
            "onnx_sha256": hashlib.sha256(half.read_bytes()).hexdigest(),
            "sample_sha256": sample_sha256(),
            "library": "tensorrt",
            "version": "11.4.0",
            "gpu": GPU.name,
            "compute_capability": "8.6",
            "driver": GPU.driver,
            "profile": "1,8,32,64",
            "flags": FLAGS,
        }
        record = Record(
            key=EngineKey(**(key | changes)),
            sha256=hashlib.sha256(b"plan").hexdigest(),
            size=4,
            built_at=built_at,
            seconds=1.0,
            half_share=0.9,
            parity={},
        )
        EngineCache().store(record, b"plan")

    return keep


def state_of(name: str, model: Path) -> BackendState:
    (state,) = (state for state in examine(model).backends if state.name == name)
    return state


def test_without_a_gpu_the_cpu_is_left_and_the_others_say_why(tiny_model: Path) -> None:
    found = examine(tiny_model)
    assert (found.driver, found.gpus, found.engines) == ("", [], [])
    cpu, *others = (state for state in found.backends if state.name != "openvino")
    assert (cpu.name, cpu.usable, cpu.detail) == ("cpu", True, "onnxruntime-cpu")
    assert cpu.tile_ms is not None
    assert cpu.tile_ms > 0
    assert [(state.name, state.usable, state.tile_ms) for state in others] == [
        ("cuda", False, None),
        ("tensorrt", False, None),
        ("tensorrt-rtx", False, None),
    ]
    assert {state.detail for state in others} == {doctor.NO_GPU}  # and nothing to install, or hidden


@pytest.mark.usefixtures("with_gpu")
def test_no_engine_is_built_by_looking(tiny_model: Path, opened: list[str]) -> None:
    state = state_of("tensorrt", tiny_model)
    assert state.usable
    assert state.tile_ms is None
    assert "gtpick-rt build --backend tensorrt" in state.detail
    assert set(opened) == {"cpu", "openvino", "cuda"}


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({}, True),
        ({"driver": "570.2"}, False),
        ({"version": "10.12"}, False),
        ({"onnx_sha256": "0"}, False),
        ({"sample_sha256": "0"}, False),
        ({"flags": "of another builder"}, False),
    ],
)
def test_an_engine_that_is_there_runs_a_tile(
    changes: dict[str, str],
    runs: bool,
    tiny_model: Path,
    opened: list[str],
    keep_engine: Callable[..., None],
) -> None:
    keep_engine(**changes)
    state = state_of("tensorrt", tiny_model)
    assert state.usable
    assert ("tensorrt" in opened) == runs == (state.tile_ms is not None)


@pytest.mark.usefixtures("with_gpu", "opened")
def test_what_a_backend_takes_of_the_gpu_s_memory_is_told(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = iter([(500_000_000, 8_000_000_000), (912_000_000, 8_000_000_000)])
    monkeypatch.setattr(cuda, "Cuda", lambda: SimpleNamespace(memory_in_use=lambda: next(asked)))
    found = examine(tiny_model)
    assert {state.name: state.memory_bytes for state in found.backends if state.memory_bytes is not None} == {
        "cuda": 412_000_000
    }
    _print(found)
    assert re.search(r"cuda +yes +[\d.]+ ms +412 MB", capsys.readouterr().out)


@pytest.mark.usefixtures("opened")
def test_a_backend_that_answers_nonsense_is_not_usable(
    tiny_model: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = ScriptedBackend(lambda tiles: (tiles[:, 0, 0] * np.float32(np.nan), tiles), "paper")
    monkeypatch.setattr(doctor, "open_backend", lambda name, model: (nonsense, spec))
    state = state_of("cpu", tiny_model)
    assert not state.usable
    assert "numbers that are none" in state.detail


def test_without_cuda_python_the_driver_s_program_names_the_gpus(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Paper GPU, 8.6, 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor, "gpu_is_here", lambda: True)
    found = examine(tiny_model)
    assert found.gpus == [GPU]
    assert found.driver == "580.1"
    assert not any(state.usable for state in found.backends if state.name.startswith("tensorrt"))


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'Old GPU, [N/A], 470.1'; echo 'Paper GPU, 8.6, 580.1'", ["Paper GPU"]),
        ("echo 'No devices were found'", []),
        ("exec sleep 60", []),
        ("exit 9", []),
    ],
)
def test_whatever_the_driver_s_program_does_the_rest_is_told(
    script: str, names: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nPATH={os.defpath}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor, "gpu_is_here", lambda: True)
    monkeypatch.setattr(doctor, "_SMI_S", 0.2 if "sleep" in script else 60)
    assert [gpu.name for gpu in examine(tiny_model).gpus] == names


@pytest.mark.usefixtures("with_gpu", "opened")
@pytest.mark.parametrize(
    ("gpu", "name", "told"),
    [
        (Gpu("Turing", (7, 5), "580.1"), "tensorrt-rtx", "pick with --backend tensorrt or --backend cuda"),
        (Gpu("Hopper", (9, 0), "580.1"), "tensorrt-rtx", "for which tensorrt-rtx is not made"),
        (Gpu("Volta", (7, 0), "550.1"), "tensorrt", "pick with --backend cpu"),
        (Gpu("Ampere", (8, 6), "470.1"), "cuda", "older than 525"),
    ],
)
def test_what_speaks_against_a_card_or_its_driver_is_looked_at_first(
    gpu: Gpu, name: str, told: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cuda:
        def gpus(self) -> list[Gpu]:
            return [gpu]

    monkeypatch.setattr(doctor, "Cuda", Cuda)
    state = state_of(name, tiny_model)
    assert not state.usable
    assert told in state.detail


def test_engines_are_listed_and_what_is_wrong_with_them(tiny_model: Path, keep_engine: Callable[..., None]) -> None:
    keep_engine()
    keep_engine(library="tensorrt-rtx")
    file = next(EngineCache().folder.glob("*.engine"))
    file.write_bytes(b"longer plan")
    found = examine(tiny_model)
    problems = {engine.file: engine.problem for engine in found.engines}
    assert len(problems) == 2
    assert "11 bytes instead of 4" in problems.pop(file.name)
    assert set(problems.values()) == {""}


def test_engines_that_are_not_used_any_more_are_named_and_the_command_removes_them(
    tiny_model: Path, keep_engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    keep_engine(driver="570.2")
    keep_engine(library="tensorrt-rtx")
    keep_engine(built_at="2026-11-24")
    folder = EngineCache().folder
    (folder / "stray $x.engine").write_bytes(b"?")
    done = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model)], env={"COLUMNS": "200"})
    assert "built 2026-11-23; superseded: driver 570.2 instead of 580.1" in done.output
    (command,) = re.findall("these can be removed: (.*)", done.output)
    subprocess.run(command, shell=True, check=True)
    assert {(entry.record and entry.record.key.library, entry.problem) for entry in EngineCache().entries()} == {
        ("tensorrt", ""),
        ("tensorrt-rtx", ""),
    }
    assert len(list(folder.glob("*.json"))) == 2
    done = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model)], env={"COLUMNS": "200"})
    assert "removed" not in done.output


def test_a_folder_of_engines_that_is_open_to_others_is_told(tiny_model: Path, keep_engine: Callable[..., None]) -> None:
    keep_engine()
    EngineCache().folder.chmod(0o755)
    found = examine(tiny_model)
    assert found.engines == []
    assert "open to others" in found.engine_problem


def test_the_command_prints_it_all_and_succeeds(tiny_model: Path, keep_engine: Callable[..., None]) -> None:
    keep_engine()
    done = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for text in ("driver: none is loaded", doctor.NO_GPU, "tensorrt-rtx", "onnxruntime-cpu", "11.4.0"):
        assert text in done.output
    as_json = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model), "--json"])
    assert as_json.exit_code == 0
    found = json.loads(as_json.stdout)
    assert [state["name"] for state in found["backends"]] == ["cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx"]
    assert found["engines"][0]["size"] == 4
