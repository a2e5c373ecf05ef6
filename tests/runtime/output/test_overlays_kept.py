"""Overlays of a finished run: drawn from the detections and previews that the folder keeps."""

import io
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from gtpick_rt.cli.main import app
from gtpick_rt.output.layout import overlay_path, preview_path, topaz_path
from gtpick_rt.types import FloatArray, Micrograph

SIDE = (192, 128)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def picked(
    tmp_path: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    tiny_model: Path,
) -> Callable[..., Result]:
    """A function that picks two micrographs, which are then removed, into `out`; more options
    may be given.
    """
    for seed, name in enumerate(("a", "deep/b")):
        xy = np.array([[71, 39], [151, 87]], np.float32)
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(xy, SIDE[::-1], seed).data)
    command: list[Any] = ["pick", tmp_path / "in", "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model]
    return lambda *options: call(*command, "--threshold", 0.9, "--recursive", *options)


def rings(out: Path, stem: str) -> int:
    """Pixels of the overlay that are not grey: of rings."""
    with Image.open(overlay_path(out, PurePosixPath(stem))) as picture:
        assert picture.size == SIDE
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return int((np.ptp(pixels, axis=2) > 20).sum())


def test_overlays_asked_for_later_are_drawn_without_picking_anew(picked: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "out"
    picked()
    assert not (out / "overlays").exists()
    again = picked("--overlays")
    assert "0 micrographs picked" in again.output
    assert f"overlays: {out / 'overlays'}" in again.output
    assert rings(out, "a") and rings(out, "deep/b")


def test_convert_draws_overlays_also_where_the_micrographs_are_gone(
    picked: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    picked()
    for path in (tmp_path / "in").rglob("*.mrc"):
        path.unlink()
    result = call("convert", out, "--formats", "overlays,csv")
    assert result.exit_code == 0, result.output
    assert str(out / "overlays") in result.output
    assert rings(out, "a") and rings(out, "deep/b")


def test_rethresholding_draws_the_overlays_that_the_folder_keeps_anew(
    picked: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    picked("--overlays")
    before = rings(out, "a")
    result = call("rethreshold", out, "--threshold", 0.999999)
    assert result.exit_code == 0, result.output
    assert "removed" not in result.output
    assert rings(out, "a") < before
    call("rethreshold", out, "--threshold", 0.9)
    assert rings(out, "a") == pytest.approx(before, rel=0.3)


def test_overlays_are_drawn_after_rethresholding_too(picked: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "out"
    picked()
    call("rethreshold", out, "--threshold", 0.999999)
    few = call("convert", out, "--formats", "overlays")
    assert few.exit_code == 0
    assert (few_rings := rings(out, "a")) >= 0
    call("rethreshold", out, "--threshold", 0.9)
    assert rings(out, "a") > few_rings


def test_later_micrographs_get_overlays_as_the_others_of_the_folder_have(
    picked: Callable[..., Result], tmp_path: Path
) -> None:
    picked("--overlays")
    (tmp_path / "in" / "c.mrc").write_bytes((tmp_path / "in" / "a.mrc").read_bytes())
    assert "1 micrograph picked" in picked().output
    assert rings(tmp_path / "out", "c")


@pytest.mark.parametrize("content", [None, b"no picture", b"\xff\xd8\xff\xe0 cut"])
def test_a_preview_that_is_missing_or_damaged_is_named_and_the_rest_is_made(
    content: bytes | None, picked: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    picked()
    preview = preview_path(out, PurePosixPath("a"))
    preview.unlink()
    if content is not None:
        preview.write_bytes(content)
    result = call("convert", out, "--formats", "overlays,topaz")
    assert result.exit_code == 3
    assert "no overlay can be drawn without the preview" in result.output
    assert "pick a again" in result.output
    assert not overlay_path(out, PurePosixPath("a")).exists()
    assert rings(out, "deep/b")
    assert {line.split()[0] for line in topaz_path(out).read_text().splitlines()[1:]} == {"a", "b"}


def test_an_overlay_from_a_preview_lies_where_the_live_one_does(picked: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "out"
    picked("--overlays")
    path = overlay_path(out, PurePosixPath("a"))
    live = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int)
    path.unlink()
    picked()
    later = np.asarray(Image.open(path).convert("RGB")).astype(int)
    ringed = [np.ptp(pixels, axis=2) > 20 for pixels in (live, later)]
    assert (ringed[0] == ringed[1]).mean() > 0.99
    assert json.loads((out / ".gtpick" / "formats.json").read_text())["formats"] == ["overlays"]
