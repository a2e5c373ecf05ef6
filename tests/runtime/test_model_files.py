"""Models are found by name and by path."""

from pathlib import Path

import pytest

from gtpick_rt import model_files
from gtpick_rt.errors import ModelError
from gtpick_rt.model_files import resolve_model


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("gtpick-base", "gtpick-nano"):
        (folder / f"{name}.onnx").touch()
    monkeypatch.setattr(model_files, "_FOLDER", folder)
    return folder


def test_the_default_is_nano(shipped: Path) -> None:
    assert resolve_model(None) == shipped / "gtpick-nano.onnx"


def test_without_nano_the_first_that_ships_is_the_default(shipped: Path) -> None:
    (shipped / "gtpick-nano.onnx").unlink()
    assert resolve_model(None) == shipped / "gtpick-base.onnx"


def test_a_shipped_model_goes_by_its_name(shipped: Path) -> None:
    assert resolve_model("gtpick-base") == shipped / "gtpick-base.onnx"


def test_any_other_model_goes_by_its_path(shipped: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.touch()
    assert resolve_model(str(own)) == own


@pytest.mark.parametrize("name", ["gtpick-giant", "missing/own.onnx"])
def test_an_unknown_model_is_refused_with_those_that_ship(name: str, shipped: Path) -> None:
    with pytest.raises(ModelError, match=f"no model '{name}'.*gtpick-base, gtpick-nano.*--model FILE"):
        resolve_model(name)


def test_where_no_model_ships_the_message_says_so(shipped: Path) -> None:
    for path in shipped.iterdir():
        path.unlink()
    with pytest.raises(ModelError, match=r"no model 'gtpick-nano'.*\(none\)"):
        resolve_model(None)
