"""Findings of the review as tests of commit 3551287, in the words of its code: what is before.

findings.py puts them among that commit's own tests, whose paper GPU stands for a card. A test is
named by its finding, and says what should have held.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
import tomllib
from gtpick_rt.engines import Gpu
from typer.testing import CliRunner

import gtpick_rt
from gtpick_rt import doctor
from gtpick_rt.backends import cuda, onnxruntime_cuda, open_backend, tensorrt
from gtpick_rt.cli import app
from gtpick_rt.errors import BackendError

ROOT = Path(gtpick_rt.__file__).parents[2]


@dataclass
class Engine:
    plan: bytes = b"plan"
    fresh: bool = False


def extras() -> dict[str, list[str]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def packages_of(*names: str) -> set[str]:
    """What extras bring, with those that they name."""
    found: set[str] = set()
    for wanted in [each for name in names for each in extras()[name]]:
        package, _, more = re.match(r"([\w-]+)(\[([\w,-]+)\])?", wanted).groups()
        found |= packages_of(*more.split(",")) if package == "gtpick-rt" else {package}
    return found


def test_E1_the_advised_cure_leaves_an_onnx_runtime(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"pip uninstall (--yes )?onnxruntime onnxruntime-gpu"):
        onnxruntime_cuda.need_cuda()


def test_E2_no_two_extras_bring_both_onnx_runtimes():
    both = {"onnxruntime", "onnxruntime-gpu"}
    assert [pair for pair in (("train", "gpu"), ("gpu", "rtx")) if both <= packages_of(*pair)] == []


def test_F_there_is_an_extra_for_cuda_12():
    assert [name for name, wanted in extras().items() if any("cu12" in each for each in wanted)]


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_G_no_engine_is_built_for_a_card_that_the_library_is_not_made_for(capability, with_half, trt, monkeypatch):
    built = []
    monkeypatch.setattr(tensorrt, "current_gpu", lambda: Gpu("Card", capability, "580.1"))
    monkeypatch.setattr(tensorrt, "engine_for", lambda *_, **__: built.append(capability) or Engine())
    with pytest.raises(BackendError):
        open_backend("tensorrt-rtx", with_half)
    assert not built


def smi(monkeypatch, answer):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", answer)
    return doctor._ask_smi()


def test_I1_the_doctor_survives_a_hanging_nvidia_smi(monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    assert smi(monkeypatch, hang) == []


def test_I2_the_doctor_survives_a_capability_that_is_not_told(monkeypatch):
    said = subprocess.CompletedProcess([], 0, "Card, [N/A], 580.1\n", "")
    smi(monkeypatch, lambda *_, **__: said)


def test_J_coordinates_are_not_computed_in_tf32():
    assert onnxruntime_cuda._OPTIONS.get("use_tf32", "1") == "0"


def test_K1_a_proof_is_of_the_card_that_infers_alone(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "information").write_text(f"Model: {name}\n")
    monkeypatch.setattr(cuda, "_GPUS", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "second" not in cuda.device_identity()


def test_K4_a_kept_engine_that_does_not_load_is_built_anew(with_half, trt, monkeypatch):
    monkeypatch.setattr(
        tensorrt, "engine_for", lambda *_, force=False, **__: Engine(b"plan" if force else b"of another version")
    )
    open_backend("tensorrt", with_half)


def test_K8_build_does_not_advise_an_option_that_it_has_not(with_half, cudart):
    cudart.count = 0
    done = CliRunner().invoke(app, ["build", str(with_half), "--library", "tensorrt"])
    assert done.exit_code == 1
    assert "or use --backend cpu" not in done.output
