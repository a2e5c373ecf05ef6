"""Of a backend that is refused, what was seen is kept in one file that a user can send."""

import json
import platform
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.proof.refusing import refusal
from gtpick_rt.version import __version__


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for reports that is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gtpick-rt" / "refused"


def test_the_error_names_the_file_that_tells_why_and_on_what(refused: Path) -> None:
    error = refusal("tensorrt-fp16 on Paper GPU/8", "it picks otherwise", {"version": "11.4"}, {"check": "a tile"})
    path = refused / "tensorrt-fp16-on-paper-gpu-8.json"
    assert str(error) == f"it picks otherwise; report it with {path}"
    report = json.loads(path.read_text())
    assert (report["refused"], report["message"]) == ("tensorrt-fp16 on Paper GPU/8", "it picks otherwise")
    assert (report["of"], report["seen"]) == ({"version": "11.4"}, {"check": "a tile"})
    assert (report["version"], report["python"]) == (__version__, platform.python_version())
    assert report["packages"]["numpy"] == np.__version__
    assert {"date", "machine", "processor", "driver"} < set(report)


def test_only_the_last_refusal_of_a_backend_is_kept(refused: Path) -> None:
    for n in range(3):
        refusal("cuda", "it picks otherwise", {}, {"n": n})
    (path,) = refused.iterdir()
    assert json.loads(path.read_text())["seen"] == {"n": 2}


def test_where_nothing_can_be_kept_the_error_says_so(refused: Path) -> None:
    refused.parent.write_text("a file where the folder should be")
    error = refusal("cuda", "it picks otherwise", {}, {})
    assert str(error).startswith(f"it picks otherwise; report it: the figures cannot be kept in {refused}/cuda.json (")
