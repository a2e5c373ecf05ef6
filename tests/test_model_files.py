"""docs/model_files.md: the reader that it shows picks as the command does, its tables are complete,
and the oldest files open.
"""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from gtpick_export.steps import write_steps
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.cli.main import app
from gtpick_rt.errors import ModelError
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.models.files import SAMPLE, resolve_model
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A
from gtpick_rt.reading.micrographs import read_micrograph

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "model_files.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SPEC = read_spec(resolve_model(None))
FIRST = "1c8d178"
"""The commit with the first model that shipped, by version 0.1.0."""
FIRST_SPEC = {
    "name": "gtpick-nano",
    "version": "1",
    "input_name": "tiles",
    "score_name": "scores",
    "box_name": "boxes",
    "tile_px": 256,
    "margin_px": 32,
    "queries": 512,
    "diameter_px": 24.0,
    "diameter_range_px": [12.5, 28.0],
    "highpass_px": 97,
    "clip": 6.0,
    "merge_distance": 0.5,
    "calibration": [1.0, 0.0],
    "threshold": 0.3469,
    "floor": 0.05,
    "provenance": {"steps": "3000"},
}
"""What that model says of itself, shortened in its provenance."""
MICROGRAPHS = [(SAMPLE, SAMPLE_DIAMETER_A), *((path, 214.0) for path in sorted((ROOT / "sample").glob("*.mrc")))]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The functions `pick` and `join` of the page."""
    variables: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "model_files.md", "exec"), variables)
    return variables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three files, as `export --to onnx` leaves them."""
    out, model = tmp_path_factory.mktemp("onnx"), resolve_model(None)
    write_steps(model, read_spec(model), out / "prepare.onnx", out / "join.onnx")
    (out / model.name).symlink_to(model)
    return out


@pytest.mark.parametrize(("path", "diameter_A"), MICROGRAPHS, ids=lambda value: getattr(value, "stem", ""))
def test_the_reader_of_the_page_picks_as_the_command_does(
    path: Path, diameter_A: float, page: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    options = ["--diameter", f"{diameter_A}", "--threshold", f"{SPEC.threshold}", "--backend", "cpu"]
    result = CliRunner().invoke(app, ["pick", str(path), "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    (star,) = (tmp_path / "out").rglob("*_autopick.star")
    wanted, got = read_coordinates(star).xy_px, page["pick"](folder, path, diameter_A)
    assert len(got) == len(wanted) > 30
    apart = np.linalg.norm(got[:, None, :2] - wanted[None], axis=2)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 0.01
    with open_picker(diameter_A, backend="cpu") as picker:
        found = picker.pick(read_micrograph(path))
    np.testing.assert_allclose(got[:, 3], found.score[: len(got)], atol=1e-4)


def test_what_the_page_says_of_joining_is_what_the_file_does(page: dict[str, Any], folder: Path) -> None:
    rng = np.random.default_rng(0)
    scores, boxes = (rng.random((2, SPEC.queries, *more), np.float32) for more in ((), (3,)))
    boxes *= np.array([SPEC.tile_px, SPEC.tile_px, 30], np.float32)
    places = np.array([[0, 0, -0.5, 223.5, -0.5, 255.5], [192, 0, 223.5, 447.5, -0.5, 255.5]], np.float32)
    given = {"scores": scores, "boxes": boxes, "places": places, "shapes": np.array([511, 900, 256, 448], np.float32)}
    (picks,) = onnxruntime.InferenceSession(folder / "join.onnx").run(None, given)
    wanted = picks[picks[:, 3] >= SPEC.threshold]
    got = page["join"](**given, spec=json.loads(SPEC.to_json()))
    assert len(got) == len(wanted) > 30
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_the_reader_has_twenty_lines_and_none_is_long() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 20
    assert max(len(line) for block in BLOCKS for line in block.splitlines()) <= 100


def test_the_page_describes_every_field_of_the_spec() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {field.name for field in fields(ModelSpec)} | {"format"} <= named


def test_a_file_with_the_spec_of_the_first_model_opens(tmp_path: Path) -> None:
    model = onnx.load(resolve_model(None))
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(FIRST_SPEC)})
    onnx.save(model, tmp_path / "first.onnx")
    spec = read_spec(tmp_path / "first.onnx")
    assert (spec.version, spec.threshold, spec.diameter_range_px) == ("1", 0.3469, (12.5, 28.0))


def test_the_first_model_that_shipped_opens_and_picks(tmp_path: Path) -> None:
    path = f"{FIRST}:runtime/gtpick_rt/models/gtpick-nano.onnx"
    found = subprocess.run(["git", "-C", str(ROOT), "show", path], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"the history of the repository does not reach back to {FIRST}")
    (tmp_path / "first.onnx").write_bytes(found.stdout)
    with open_picker(SAMPLE_DIAMETER_A, model=str(tmp_path / "first.onnx"), backend="cpu") as picker:
        assert picker.spec.version == "1"
        assert len(picker.pick(read_micrograph(SAMPLE))) > 100


def test_a_file_of_another_major_version_is_refused_by_its_name(tmp_path: Path) -> None:
    model = onnx.load(resolve_model(None))
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**FIRST_SPEC, "format": "2.0.0"})})
    onnx.save(model, tmp_path / "future.onnx")
    with pytest.raises(ModelError, match=r"future\.onnx: the model's file format is 2\.0\.0"):
        read_spec(tmp_path / "future.onnx")
