"""What is said of one is said of one."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import Survey
from gtpick_rt.types import FloatArray, Micrograph

pytest.importorskip("jinja2", reason="Jinja2 is not installed (extra monitor)")
pytest.importorskip("markdown_it", reason="markdown-it-py is not installed (extra monitor)")

PLURAL = re.compile(r"\b1 (?!ms\b)\w+s\b")
COMMANDS = (
    "check in",
    "pick in --out out --pixel-size 1",
    "convert out --formats box",
    "evaluate out out --diameter 48 --pixel-size 2",
    "report out --out report.html",
)


def test_one_pick_on_one_micrograph_is_never_told_in_the_plural(
    tmp_path: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    dot_picker: Picker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_mrc(tmp_path / "in" / "a.mrc", dots(np.array([[71, 39]], np.float32), (128, 192)).data)
    found = Survey(48, (47, 49), "dark", 1)
    picker = Picker(dot_picker.backend, dot_picker.spec, found.diameter_A, survey=found)
    monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", lambda *args, **kwargs: picker)
    told = {command: CliRunner().invoke(app, command.split()).output for command in COMMANDS}
    told["report.html"] = (tmp_path / "report.html").read_text()
    assert not {name: PLURAL.findall(text) for name, text in told.items() if PLURAL.search(text)}
    assert all(words in "".join(told.values()) for words in ("measured on 1 micrograph,", "1 pick on 1 micrograph"))
