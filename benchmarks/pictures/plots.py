"""Every plot of the documents, drawn anew from the figures that the benchmarks keep."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.accuracy import comparison_shown, diameter, finetuning, simulated, starting_network, training_progress
from benchmarks.interoperability import map_resolution
from benchmarks.shared.common import ROOT
from benchmarks.shared.plots import Draw, plot
from benchmarks.speed import peers, scaling_lines
from gtpick_model.curves import draw_curve
from gtpick_rt.bench.drawing import draw as draw_speed
from gtpick_rt.bench.measuring import Speed


def draw_bench(result: dict[str, Any], path: Path) -> None:
    """Draw what `gtpick-rt bench --json` wrote, as its --plot does."""
    values: dict[str, Any] = {field.name: result.get(field.name) for field in fields(Speed)}
    values["tiles_per_s"] = {int(batch): rate for batch, rate in result["tiles_per_s"].items()}
    path.write_bytes(draw_speed(Speed(**values)))


ACCURACY, INTEROPERABILITY, SPEED = (
    ROOT / "benchmarks" / name / "results" for name in ("accuracy", "interoperability", "speed")
)
PLOTS: dict[Path, Draw] = {
    ACCURACY / "diameter.json": diameter.draw,
    ACCURACY / "finetuning.json": finetuning.draw,
    ACCURACY / "simulated.json": simulated.draw,
    ACCURACY / "simulated_gtpick-nano-2.json": simulated.draw,
    ACCURACY / "starting_network.json": starting_network.draw,
    ACCURACY / "topaz_comparison.json": comparison_shown.draw,
    ACCURACY / "training_nano.json": draw_curve,
    ACCURACY / "training_nano_4.json": draw_curve,
    ACCURACY / "training_nano_6.json": draw_curve,
    ACCURACY / "training_nano_further.json": draw_curve,
    ACCURACY / "training_progress.json": training_progress.draw,
    ACCURACY / "training_small.json": draw_curve,
    INTEROPERABILITY / "map_resolution.json": map_resolution.draw,
    SPEED / "bench.json": draw_bench,
    SPEED / "peers.json": peers.draw,
    SPEED / "scaling.json": scaling_lines.draw,
}
"""How each file of figures is drawn; its plot lies beside it."""


def draw_all() -> None:
    """Draw every plot."""
    for figures, draw in PLOTS.items():
        print(f"drawn: {plot(figures, draw).relative_to(ROOT)}")
