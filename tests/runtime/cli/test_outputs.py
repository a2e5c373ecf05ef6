"""What commands leave behind and say, beside what was recorded.

`GTPICK_REGENERATE_GOLDEN=1 python -m pytest tests/runtime/cli/test_outputs.py` records it anew.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.detection.picker import Picker
from gtpick_rt.types import FloatArray, Micrograph

GOLDEN = Path(__file__).parent / "golden" / "outputs.txt"
REGENERATE = "GTPICK_REGENERATE_GOLDEN"
TEXTS = (".star", ".box", ".cbox", ".csv", ".txt", ".json")
PICK = ["pick", "in", "--out", "out", "--pixel-size", "2", "--recursive"]
VARYING = {
    r'("(?:time|version|written)": )"[^"]*"': r'\1"-"',
    r'("(?:seconds|mtime_ns|lag_s|read|preprocess|infer|decode|write)": )[\d.e-]+': r"\1-",
    r"\d+\.\d+ s\b|\d+ min \d+ s\b": "- s",
    r"\d+\.\d+/s": "-/s",
    r'(?s)("command": )\[.*?\]': r"\1[]",
}
"""What differs from run to run."""
COMMANDS = {
    "pick": [*PICK, "--overlays", "--formats", "box,cbox,csv,json,cs,topaz"],
    "pick again": PICK,
    "pick with other settings": [*PICK, "--threshold", "0.5"],
    "pick what is not there": ["pick", "nothing", "--out", "out"],
    "check": ["check", "in"],
    "rethreshold": ["rethreshold", "out", "--threshold", "0.85"],
    "convert": ["convert", "out", "--formats", "box", "--box-size", "40"],
    "evaluate": ["evaluate", "out", "out", "--diameter", "48", "--pixel-size", "2"],
}


@pytest.fixture
def here(
    tmp_path: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    dot_picker: Picker,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A current folder with three micrographs of dots, one of them cut short."""
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "deep/b", "c")):
        xy = np.array([[71, 39], [151, 87], [40.5, 90.0]], np.float32) + seed
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(xy, (128, 192), seed).data)
    (tmp_path / "in" / "cut.mrc").write_bytes((tmp_path / "in" / "c.mrc").read_bytes()[:5000])
    monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", lambda *args, **kwargs: dot_picker)
    return tmp_path


def normalised(text: str) -> str:
    for pattern, instead in VARYING.items():
        text = re.sub(pattern, instead, text)
    return text


def recorded(folder: Path) -> str:
    """All commands, with exit codes and what they print, then the files with their texts."""
    parts = []
    for name, command in COMMANDS.items():
        result = CliRunner().invoke(app, command, prog_name="gtpick-rt")
        parts.append(f"== {name}: exit code {result.exit_code}\n{normalised(result.output)}")
    files = [path for path in sorted((folder / "out").rglob("*")) if path.is_file()]
    for path in files:
        text = normalised(path.read_text()) if path.suffix in TEXTS else ""
        parts.append(f"== {path.relative_to(folder)}\n{text}")
    return "\n".join(parts)


def test_commands_leave_and_say_what_was_recorded(here: Path) -> None:
    found = recorded(here)
    if REGENERATE in os.environ:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()
