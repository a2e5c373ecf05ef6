"""Masks: white where picks may lie."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from PIL import Image

from gtpick_rt.errors import FormatError, MicrographError, UnreadableError
from gtpick_rt.reading.masks import mask_beside, read_mask

LEFT = np.zeros((30, 60), np.uint8)
LEFT[:, :20] = 1
TOP = np.zeros((30, 60), np.uint8)
TOP[:10] = 1


def png(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:  # type: ignore[type-arg]
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("mode", [None, "RGB", "RGBA"])
def test_a_png_is_white_where_picks_may_lie(white: int, mode: str | None, tmp_path: Path) -> None:
    allowed = read_mask(png(tmp_path / "m.png", LEFT * white, mode), (300, 600), (60, 120))
    assert (allowed[:, :40].all(), allowed[:, 40:].any()) == (True, False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
def test_rows_of_a_mask_are_those_of_an_mrc(dtype: type, tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "m.mrc") as mrc:
        mrc.set_data(TOP.astype(dtype))
    for path in (tmp_path / "m.mrc", png(tmp_path / "m.png", TOP * 255)):
        allowed = read_mask(path, (30, 60), (30, 60))
        assert (allowed[:10].all(), allowed[10:].any()) == (True, False)


def test_a_black_mask_allows_nothing(tmp_path: Path) -> None:
    assert not read_mask(png(tmp_path / "m.png", LEFT * 0), (30, 60), (30, 60)).any()


def test_a_mask_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"m\.png: a mask of 60 x 30 px does not have the shape of its micrograph"):
        read_mask(png(tmp_path / "m.png", LEFT), (600, 600), (60, 60))


def test_what_is_no_mask_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"nothing")
    (tmp_path / "m.mrc").write_bytes(b"nothing")
    for name in ("m.png", "m.mrc"):
        with pytest.raises(MicrographError, match=name):
            read_mask(tmp_path / name, (30, 60), (30, 60))
    cut = png(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (300, 600), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(FormatError, match=r"cut\.png"):
        read_mask(tmp_path / "cut.png", (30, 60), (30, 60))
    with pytest.raises(UnreadableError, match=r"none\.png"):
        read_mask(tmp_path / "none.png", (30, 60), (30, 60))


def test_a_mask_is_called_as_the_outputs_of_its_micrograph(tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    expected = png(tmp_path / "grid" / "a.png", LEFT)
    assert mask_beside(tmp_path, "grid/a") == expected
    assert mask_beside(tmp_path, "a") is None
