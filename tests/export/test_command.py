"""`gtpick-rt export` releases a model only if it answers as the trained network does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gtpick_export import release as releasing
from gtpick_export.commands import export
from gtpick_export.parity import Parity
from gtpick_model.tiles import libraries
from gtpick_rt.errors import ModelError

GOOD = Parity(16, 1e-6, reference_picks=100, picks=100, matched=100)
BAD = Parity(16, 0.3, reference_picks=100, picks=80, matched=70)

app = typer.Typer()
app.command()(export)


@pytest.fixture(autouse=True)
def quick(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph was exported before, and a few small particles are enough."""
    small = libraries(None, 12, views=2, side=16)
    monkeypatch.setattr(releasing, "libraries", lambda *_, **__: small)
    monkeypatch.setattr(releasing, "export_onnx", lambda network, spec, path: shutil.copy(exported.path, path))


def release(exported: Any, out: Path, found: Parity, monkeypatch: pytest.MonkeyPatch) -> str:
    """Export with a comparison that comes out like this; returns what was printed."""
    monkeypatch.setattr(releasing, "compare", lambda *_: found)
    return CliRunner().invoke(app, [str(exported.weights), str(out)], catch_exceptions=False).output


def test_a_model_with_parity_is_released(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    text = release(exported, out, GOOD, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert f"parity with PyTorch on {GOOD}" in text


def test_a_model_without_parity_is_not_released(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match=r"does not answer as PyTorch does.*70 of 100 picks"):
        release(exported, out, BAD, monkeypatch)
    assert not out.exists()


def test_a_released_model_outlives_a_failed_export(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"released before")
    with pytest.raises(ModelError):
        release(exported, out, BAD, monkeypatch)
    assert out.read_bytes() == b"released before"
