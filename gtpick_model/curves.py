"""Pictures of a training run."""

import json
from pathlib import Path

from gtpick_rt.files.drawing import keep_fonts_elsewhere


def draw_curve(folder: Path) -> None:
    """Draw a run's `curve.json` as `curve.png`: loss, best F1 and AP on held-out structures, and
    best F1 on real micrographs, against steps.
    """
    keep_fonts_elsewhere()
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    run = json.loads((folder / "curve.json").read_text())
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
    figure.savefig(folder / "curve.png", dpi=120)
    plt.close(figure)
