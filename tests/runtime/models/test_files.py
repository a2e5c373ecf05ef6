"""Models are found by name and by path."""

from pathlib import Path

import pytest

from gtpick_rt.errors import ModelError
from gtpick_rt.models import files as model_files
from gtpick_rt.models.files import half_of, resolve_model, shipped_models


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
    with pytest.raises(ModelError, match=f"no model '{name}'.*gtpick-base, gtpick-nano.*the path of an ONNX file"):
        resolve_model(name)


def test_where_no_model_ships_the_message_says_so(shipped: Path) -> None:
    for path in shipped.iterdir():
        path.unlink()
    with pytest.raises(ModelError, match=r"no model 'gtpick-nano'.*\(none\)"):
        resolve_model(None)


def test_a_file_in_half_precision_is_no_model_of_its_own_but_found_beside_one(shipped: Path) -> None:
    half = shipped / "gtpick-nano.fp16.onnx"
    half.touch()
    assert list(shipped_models()) == ["gtpick-base", "gtpick-nano"]
    assert half_of(shipped / "gtpick-nano.onnx") == half
    assert half_of(half) == half


def test_without_a_file_in_half_precision_the_message_says_how_to_make_it(shipped: Path) -> None:
    with pytest.raises(ModelError, match=r"gtpick-nano\.fp16\.onnx: .*--precision fp16, or use --backend cpu"):
        half_of(shipped / "gtpick-nano.onnx")
