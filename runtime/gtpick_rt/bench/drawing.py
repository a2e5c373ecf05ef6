"""A picture of where the time goes; importing this needs matplotlib (extra plot)."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gtpick_rt.bench.comparing import Measured
from gtpick_rt.bench.measuring import Speed
from gtpick_rt.records import counted

BLUE, VERMILION, BLACK = "#0072B2", "#D55E00", "#222222"


def draw(speed: Speed) -> bytes:
    """Draw each stage's own rate beside the pipeline's, and the network's rate by batch; returns a
    PNG.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    stages, batches = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_stages(stages, speed)
    batches.plot(list(speed.tiles_per_s), list(speed.tiles_per_s.values()), "o-", color=BLUE)
    batches.set(xscale="log", xlabel="tiles in a batch", ylabel="tiles per second, network alone", ylim=0)
    batches.set_xticks(list(speed.tiles_per_s), list(map(str, speed.tiles_per_s)), minor=False)
    batches.minorticks_off()
    size = f"{speed.width} x {speed.height}, {counted(speed.tiles, 'tile')}, {counted(round(speed.picks), 'pick')}"
    figure.suptitle(f"{size}; {speed.backend}, {counted(speed.cores, 'core')}", fontsize=10)
    return _png(figure)


def draw_compared(measured: Sequence[Measured]) -> bytes:
    """Draw the pipelines' rates, and the networks' by batch; returns a PNG."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    pipelines, batches = figure.subplots(1, 2)
    bars = pipelines.barh([each.name for each in measured], [1 / each.pipeline_s for each in measured], color=BLUE)
    pipelines.bar_label(bars, fmt="{:.2f}", fontsize=8, padding=3)
    pipelines.set(xlabel="micrographs per second, all stages at once")
    pipelines.margins(x=0.15)
    pipelines.invert_yaxis()  # the first is at the top
    for each in measured:
        batches.plot(list(each.tiles_per_s), list(each.tiles_per_s.values()), "o-", label=each.name)
    batches.set(xscale="log", xlabel="tiles in a batch", ylabel="tiles per second, network alone", ylim=0)
    sizes = sorted({size for each in measured for size in each.tiles_per_s})
    batches.set_xticks(sizes, list(map(str, sizes)), minor=False)
    batches.minorticks_off()
    batches.legend(fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _draw_stages(axes: Axes, speed: Speed) -> None:
    rates = {stage: 1 / seconds for stage, seconds in speed.stage_s.items()}
    bars = axes.bar(list(rates), list(rates.values()), color=BLUE)
    axes.bar_label(bars, fmt="{:.1f}", fontsize=8)
    axes.axhline(1 / speed.bound_s, color=VERMILION, linestyle="--", label=f"bound, {1 / speed.bound_s:.2f}")
    label = f"pipeline, {1 / speed.pipeline_s:.2f}: {speed.efficiency_of_bound:.0%} of the bound"
    axes.axhline(1 / speed.pipeline_s, color=BLACK, label=label)
    axes.set(yscale="log", ylim=0.5 / speed.pipeline_s, ylabel="micrographs per second, each stage alone")
    axes.legend(loc="upper left", fontsize=8)
