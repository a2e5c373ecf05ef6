"""No plot is stale: each was drawn from the figures that lie beside it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.pictures.plots import PLOTS, draw_all
from benchmarks.shared import plots
from benchmarks.shared.common import ROOT

ANEW = "draw the plots anew: make pictures"


def test_every_plot_that_is_kept_or_shown_is_drawn_by_the_command() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = [
        (page, name) for page in pages for name in re.findall(r"\]\(([^)\s]+/results/[^)\s]+\.png)\)", page.read_text())
    ]
    shown = {(page.parent / name).resolve() for page, name in named}
    drawn = {figures.with_suffix(".png") for figures in PLOTS}
    assert shown
    assert shown <= drawn
    assert drawn == set((ROOT / "benchmarks").glob("*/results/*.png"))


@pytest.mark.parametrize("figures", PLOTS, ids=lambda figures: figures.stem)
def test_a_plot_is_of_the_figures_of_today(figures: Path) -> None:
    assert plots.is_of(figures.with_suffix(".png"), figures), ANEW


def test_a_plot_of_figures_that_have_changed_is_found(tmp_path: Path) -> None:
    def draw(result: dict[str, Any], path: Path) -> None:
        Image.new("RGB", (result["side"], 8)).save(path, dpi=(96, 96))

    figures = tmp_path / "result.json"
    figures.write_text(json.dumps({"side": 8}))
    picture = plots.plot(figures, draw)
    assert plots.is_of(picture, figures)
    figures.write_text(json.dumps({"side": 9}))
    assert not plots.is_of(picture, figures)


def test_a_measurement_of_speed_is_drawn_as_its_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others draw by the function that their benchmark itself calls."""
    name = "bench.json"
    (figures,) = (path for path in PLOTS if path.name == name)
    (tmp_path / name).write_bytes(figures.read_bytes())
    monkeypatch.setattr("benchmarks.pictures.plots.ROOT", tmp_path)
    monkeypatch.setattr("benchmarks.pictures.plots.PLOTS", {tmp_path / name: PLOTS[figures]})
    draw_all()
    with Image.open(tmp_path / "bench.png") as image:
        assert image.size == (1350, 570)
