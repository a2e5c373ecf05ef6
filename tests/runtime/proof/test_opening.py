"""Which backend `auto` takes, and what it says of those that it does not."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.errors import BackendError, ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof import opening
from gtpick_rt.proof.opening import open_backend

Machine = Callable[..., None]


@pytest.fixture
def machine(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A function that sets up a machine: whether it has a GPU, what is installed, and what fails
    and why.
    """

    def set_up(
        gpu: bool, installed: set[str], failing: dict[str, Exception] | None = None, bfloat16: bool = True
    ) -> None:
        def open_one(name: str, model: Path, on_build: object) -> tuple[Backend, ModelSpec]:
            if failing and name in failing:
                raise failing[name]
            return ScriptedBackend(lambda tiles: (tiles, tiles), name), spec

        monkeypatch.setattr("gtpick_rt.backends.cuda.gpu_is_here", lambda: gpu)
        monkeypatch.setattr("gtpick_rt.backends.cores.computes_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(opening, "find_spec", lambda module: module if module in installed else None)
        monkeypatch.setattr(opening, "_open", open_one)

    return set_up


ALL = {"tensorrt", "tensorrt_rtx", "onnxruntime"}


@pytest.mark.parametrize(
    ("gpu", "installed", "chosen"),
    [
        (True, ALL, "tensorrt"),
        (True, ALL - {"tensorrt"}, "tensorrt-rtx"),
        (True, {"onnxruntime"}, "cuda"),
        (True, set(), "cpu"),
        (False, ALL, "cpu"),
        (False, ALL | {"openvino"}, "openvino"),
        (True, {"openvino"}, "openvino"),
        (True, {"openvino", "onnxruntime"}, "cuda"),
    ],
)
def test_auto_takes_the_fastest_that_is_installed(
    gpu: bool, installed: set[str], chosen: str, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(gpu, installed)
    assert open_backend("auto", Path("model.onnx"))[0].name == chosen
    assert not caplog.records


def test_a_processor_without_bfloat16_gains_nothing_by_openvino(machine: Machine) -> None:
    machine(False, {"openvino"}, bfloat16=False)
    assert open_backend("auto", Path("model.onnx"))[0].name == "cpu"


def test_auto_says_why_it_does_not_take_what_is_installed(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    failing = {"tensorrt": BackendError("refused: 90.00% of picks"), "cuda": ModelError("no half file")}
    machine(True, ALL - {"tensorrt_rtx"}, failing)
    with caplog.at_level(logging.WARNING, "gtpick_rt"):
        assert open_backend("auto", Path("model.onnx"))[0].name == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "backend tensorrt is not used: refused: 90.00% of picks",
        "backend cuda is not used: no half file",
    ]


@pytest.mark.parametrize("name", ["cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx"])
def test_a_backend_that_was_asked_for_is_never_another(name: str, machine: Machine) -> None:
    machine(True, ALL)
    assert open_backend(name, Path("model.onnx"))[0].name == name
    machine(True, ALL, {name: BackendError("is not here")})
    with pytest.raises(BackendError, match="is not here"):
        open_backend(name, Path("model.onnx"))
