"""`gtpick-rt export` releases a model only if it answers as the trained network does."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gtpick_export import release as releasing
from gtpick_export.commands import export
from gtpick_model.tiles import libraries
from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.errors import BackendError, ModelError, UnlikeError, UsageError
from gtpick_rt.models.files import half_of
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import Parity

GOOD = Parity(16, 1e-6, reference_picks=100, picks=100, matched=100, drift_px=0.0, usual_drift_px=0.0, rows_alike=True)
BAD = replace(GOOD, max_score_error=0.3, picks=80, matched=70)
ROUNDED = replace(GOOD, max_score_error=0.01, reference_picks=1000, picks=1000, matched=996)
OF_INT8 = replace(ROUNDED, matched=985)

app = typer.Typer()
app.command()(export)


@pytest.fixture(autouse=True)
def quick(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph was exported before, and a few small particles are enough."""
    small = libraries(None, 12, views=2, side=16)
    monkeypatch.setattr(releasing, "libraries", lambda *_, **__: small)
    for precision in releasing.EXPORTS:
        monkeypatch.setitem(releasing.EXPORTS, precision, lambda network, spec, path: shutil.copy(exported.path, path))


def release(exported: Any, out: Path, found: Parity, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """Export with a comparison that comes out like this; returns what was printed."""
    monkeypatch.setattr(releasing, "compare", lambda *_: found)
    return CliRunner().invoke(app, [str(exported.weights), str(out), *options], catch_exceptions=False).output


def test_a_model_with_parity_is_released(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    text = release(exported, out, GOOD, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert f"compared with PyTorch on {GOOD}" in text
    assert "half precision" not in text


def test_a_model_without_parity_is_not_released(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match=r"does not answer as PyTorch does.*70 of 100 picks"):
        release(exported, out, BAD, monkeypatch)
    assert not out.exists()


def test_rounded_scores_are_released_in_half_precision_alone(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(exported, tmp_path / "model.onnx", ROUNDED, monkeypatch, "--precision", "fp16")
    with pytest.raises(ModelError, match="does not answer as PyTorch does"):
        release(exported, tmp_path / "model.onnx", ROUNDED, monkeypatch)


@pytest.mark.parametrize("out", ["model.onnx", "model.fp16.onnx"])
def test_half_precision_goes_beside_the_model_and_never_over_it(
    out: str, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"in float32")
    text = release(exported, tmp_path / out, GOOD, monkeypatch, "--precision", "fp16")
    half = half_of(tmp_path / "model.onnx")
    assert text.startswith(f"{half}: ")
    assert "0% of its floating-point tensors are in half precision" in text  # what the fixture writes is none
    assert (tmp_path / "model.onnx").read_bytes() == b"in float32"


def test_a_precision_that_is_not_there_is_refused(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no precision 'fp4'; choose one of fp32, fp16, int8, fp8"):
        release(exported, tmp_path / "model.onnx", GOOD, monkeypatch, "--precision", "fp4")


def opened_as(name: str) -> Backend:
    return ScriptedBackend(lambda tiles: (tiles, tiles), name)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which backend was opened with which file; there is no backend but cpu and cuda."""
    found: list[tuple[str, str]] = []

    def open_backend(name: str, path: Path) -> tuple[Backend, None]:
        if name not in ("cpu", "cuda"):
            raise BackendError(f"no {name} here")
        found.append((name, path.name))
        return opened_as(name), None

    from gtpick_rt.proof import opening

    really = opening.open_backend
    monkeypatch.setattr(releasing, "open_backend", really)
    monkeypatch.setattr(opening, "open_backend", open_backend)
    return found


@pytest.mark.parametrize("faulty", [None, "cuda"])
def test_every_backend_that_is_here_is_compared_with_float32_on_the_cpu(
    faulty: str | None,
    opened: list[tuple[str, str]],
    exported: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compare(reference: Backend, candidate: Backend, spec: None) -> Parity:
        assert reference.name == "cpu"
        return BAD if candidate.name == faulty else GOOD

    monkeypatch.setattr("gtpick_rt.proof.parity.compare", compare)
    out = tmp_path / "model.onnx"
    command = [str(exported.weights), str(out), "--precision", "fp16", "--parity"]
    monkeypatch.setattr(releasing, "compare", lambda *_: GOOD)
    result = CliRunner().invoke(app, command)
    assert opened == [("cpu", "model.onnx"), ("cpu", "model.fp16.onnx"), ("cuda", "model.onnx")]
    assert f"cpu: {GOOD}" in result.output
    assert "tensorrt: no tensorrt here" in result.output
    assert f"cuda: {BAD if faulty else GOOD}" in result.output
    if faulty:
        assert isinstance(result.exception, UnlikeError)
        assert "cuda: does not pick as float32 on the CPU" in str(result.exception)
    else:
        assert result.exit_code == 0


def compare_backends(found: Parity, exported: Any, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
    """Export and compare all backends; each comparison comes out like this."""
    for place in (f"{releasing.__name__}.compare", "gtpick_rt.proof.parity.compare"):
        monkeypatch.setattr(place, lambda *_: found)
    return CliRunner().invoke(app, [str(exported.weights), str(out), *options, "--parity"])


def test_a_backend_that_refuses_itself_fails_the_comparison_and_an_absent_one_does_not(
    opened: list[tuple[str, str]], exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.proof import opening

    without_tensorrt = opening.open_backend

    def open_backend(name: str, path: Path) -> tuple[Backend, ModelSpec]:
        if name == "openvino":
            raise UnlikeError("70 of 100 picks matched")
        return without_tensorrt(name, path)

    monkeypatch.setattr(opening, "open_backend", open_backend)
    result = compare_backends(GOOD, exported, tmp_path / "model.onnx", monkeypatch)
    assert "openvino: 70 of 100 picks matched" in result.output
    assert str(result.exception).startswith("openvino: does not pick as float32 on the CPU")


@pytest.mark.parametrize(("name", "fails"), [("cpu", False), ("cuda", True)])
def test_8_bits_are_judged_by_their_own_limits_and_a_backend_by_those_of_picking(
    name: str,
    fails: bool,
    opened: list[tuple[str, str]],
    exported: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gtpick_rt.proof.opening.BACKENDS", ("auto", name))
    monkeypatch.setattr(releasing, "open_backend", lambda name, path: (opened_as(name), None))
    result = compare_backends(OF_INT8, exported, tmp_path / "model.onnx", monkeypatch, "--precision", "int8")
    assert isinstance(result.exception, UnlikeError) == fails, result.exception
    assert bool(result.exit_code) == fails


def test_a_released_model_outlives_a_failed_export(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"released before")
    with pytest.raises(ModelError):
        release(exported, out, BAD, monkeypatch)
    assert out.read_bytes() == b"released before"
