"""`gtpick-rt models` tells what is installed."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.cli.main import app
from gtpick_rt.cli.models import _spelt
from gtpick_rt.models.files import DEFAULT_MODEL, shipped_models

pytestmark = pytest.mark.skipif(not shipped_models(), reason="no model ships in gtpick_rt yet")


def test_the_models_are_listed_as_their_files_say() -> None:
    told = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)
    assert told.keys() == shipped_models().keys()
    for name, path in shipped_models().items():
        spec = read_spec(path)
        assert told[name]["threshold"] == spec.threshold
        assert told[name]["provenance"] == spec.provenance
        low, high = told[name]["extent_of_diameter"]
        assert (low * spec.diameter_px, high * spec.diameter_px) == pytest.approx(spec.diameter_range_px)
        assert told[name]["sha256"][str(path)] == sha256(path.read_bytes()).hexdigest()


def test_the_list_names_the_default_and_its_files_in_80_columns() -> None:
    output = CliRunner().invoke(app, ["models"]).output
    assert f"{DEFAULT_MODEL}, version " in output
    path = shipped_models()[DEFAULT_MODEL]
    assert str(path) in output
    assert sha256(path.read_bytes()).hexdigest() in output
    assert all(len(line) <= 80 for line in output.splitlines() if "/" not in line)


def test_how_a_model_was_trained_is_told_in_words(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["models"]).output.partition("trained")[2].partition(".onnx")[0]
    assert "tiles of 128 px: " in told
    assert not [key for key in read_spec(shipped_models()[DEFAULT_MODEL]).provenance if "_" in key and key in told]
    assert not re.search(r"\d\.\d{3}|[0-9a-f]{13}", told)
    assert (_spelt("base_steps"), _spelt("particles_taught")) == ("steps (before)", "particles taught")


def test_a_file_tells_of_itself(tmp_path: Path) -> None:
    copy = tmp_path / "mine.onnx"
    copy.write_bytes(shipped_models()[DEFAULT_MODEL].read_bytes())
    output = CliRunner().invoke(app, ["models", str(copy)]).output
    assert output.startswith(f"{copy}, version ")
    assert sha256(copy.read_bytes()).hexdigest() in output


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_text("not a model")
    for name in ("bad.onnx", "missing.onnx"):
        result = CliRunner().invoke(app, ["models", str(tmp_path / name)])
        assert (result.exit_code, str(tmp_path / name) in result.stderr) == (1, True)
        assert "ONNXRuntimeError" not in result.stderr
