"""Pictures of a training run."""

from pathlib import Path
from typing import Any

from gtpick_rt.files.drawing import keep_fonts_elsewhere


def draw_curve(run: dict[str, Any], path: Path) -> None:
    """Draw what a run's `curve.json` holds to a PNG: loss, best F1 and AP on held-out structures,
    and best F1 on real micrographs, against steps.
    """
    keep_fonts_elsewhere()
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    steps = [point["step"] for point in run["curve"]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(steps, [point["loss"] for point in run["curve"]], marker="o", color="#0072B2")
    left.set(xlabel="step", ylabel="training loss", title=f"GTpick {run['config']['name']}")
    for name, colour in (("best_f1", "#D55E00"), ("ap", "#009E73")):
        right.plot(
            steps, [point[name] for point in run["curve"]], marker="o", color=colour, label=name.replace("_", " ")
        )
    for name in run["curve"][-1]:
        if name.startswith("real/") and name.endswith("_best_f1"):
            label = name.removesuffix("_best_f1") + " best f1"
            right.plot(steps, [point[name] for point in run["curve"]], marker=".", linestyle="--", label=label)
    right.set(xlabel="step", ylabel="held-out structures and rows", ylim=(0, 1))
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)
