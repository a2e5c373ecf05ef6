"""What fine-tuning on a few real micrographs is worth: EMPIAR-10017, ten micrographs with labels.

`gtpick-rt finetune` learns from the first n by name, n = 1, 2, 5, beginning with weights that were
shown no labelled micrograph; the models pick the last five at their own default threshold, and a
pick pairs with a label one to one within a third of the diameter. Nothing was tuned on these five.
Each n runs as it is and with --complete; besides, 2 micrographs with a random 30% of their labels,
and 1 and 5 micrographs with the last five beside them, without their labels (--unlabelled). The
labels are what survived 2-D classification: the precision of the surest half of the picks estimates
how complete they are. Writes results/finetuning.json and .png.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.empiar10017 import DIAMETER_PX, LENGTHS
from benchmarks.shared.common import (
    DATA,
    DIAMETER_A,
    PROGRAM,
    SIMULATED_ALONE,
    circumstances,
    convert,
    pick_command,
    result_path,
    save,
)
from benchmarks.shared.plots import plot
from gtpick_rt.evaluate.loading import load
from gtpick_rt.evaluate.report import report
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.formats.star import picks_to_star

SCORED = 5
PARTIAL = 0.3
FIGURES = ("picks", "labels", "precision", "recall", "f1", "average_precision", "best_f1", "negatives_hit", "negatives")


@dataclass(frozen=True)
class Case:
    """One fine-tuning."""

    micrographs: int
    complete: bool = False
    share: float = 1.0
    """Of the labels, drawn at random."""
    unlabelled: bool = False
    """Whether the scored micrographs are learned from too, without their labels."""

    @property
    def name(self) -> str:
        """What its files are called."""
        labels = f"{'_complete' * self.complete}{f'_{self.share:.0%}' * (self.share < 1)}"
        return f"n{self.micrographs}{labels}{'_unlabelled' * self.unlabelled}"


CASES = (
    *(Case(n, complete) for n in (1, 2, 5) for complete in (False, True)),
    Case(2, False, PARTIAL),
    *(Case(n, unlabelled=True) for n in (1, 5)),
)


def measure(model: str | None, micrographs: list[Path], data: Path, out: Path) -> dict[str, Any]:
    """Pick the scored micrographs with a model and compare with the labels."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run(pick_command(micrographs, out, model), check=True)
    loaded = load(out, data / "labels", DIAMETER_PX, negatives=data / "negatives")
    figures = report(loaded.micrographs, LENGTHS)
    assert figures.curve is not None
    record = figures.record()
    half = figures.curve.precision_at(0.5)
    threshold = json.loads((out / "summary.json").read_text())["parameters"]["threshold"]
    return {**{key: record[key] for key in FIGURES}, "precision_at_recall_half": half, "threshold": threshold}


def finetune(case: Case, micrographs: list[Path], scored: list[Path], data: Path, work: Path) -> tuple[Path, float]:
    """Run the public command; returns the model and how many seconds it took."""
    labels, model = work / f"labels_{case.name}", work / f"{case.name}.onnx"
    rng = np.random.default_rng(0)
    for path in micrographs:
        marked = read_coordinates(data / "labels" / f"{path.stem}.csv", DIAMETER_PX)
        kept = marked[rng.random(len(marked)) < case.share]
        write_atomic(labels / f"{path.stem}.star", picks_to_star(kept).encode())
    command = [PROGRAM, "finetune", *map(str, micrographs), "--weights", str(SIMULATED_ALONE)]
    command += ["--labels", str(labels), "--diameter", f"{DIAMETER_A:g}", "--out", str(model)]
    command += [word for path in scored if case.unlabelled for word in ("--unlabelled", str(path))]
    started = time.monotonic()
    subprocess.run(command + ["--complete"] * case.complete, check=True)
    return model, time.monotonic() - started


def draw(result: dict[str, Any], path: Path) -> None:
    """F1 on the scored micrographs against the number of micrographs learned from."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for complete, share, unlabelled, look, label in (
        (False, 1.0, 0, {"color": "#0072B2", "marker": "o"}, "default"),
        (True, 1.0, 0, {"color": "#D55E00", "marker": "o"}, "--complete"),
        (False, PARTIAL, 0, {"color": "#0072B2", "marker": "s", "linestyle": "none"}, f"{PARTIAL:.0%} of the labels"),
        (False, 1.0, SCORED, {"color": "#009E73", "marker": "o"}, "and these five, unlabelled"),
    ):
        kind = (complete, share, unlabelled)
        these = [row for row in result["finetuned"] if (row["complete"], row["label_share"], row["unlabelled"]) == kind]
        points = [(row["micrographs"], row["f1"]) for row in these]
        start = [(0, result["before"]["f1"])] if share == 1 else []
        panel.plot(*zip(*start, *points, strict=True), label=label, **look)
    panel.set(xlabel="micrographs learned from", ylabel=f"F1 on {SCORED} other micrographs", xticks=(0, 1, 2, 5))
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fine-tune every case, score, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images, labels, negatives (README.md)")
    parser.add_argument("--work", type=Path, help="keep micrographs, models and picks here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        micrographs = convert(arguments.data, work / "micrographs")
        scored = micrographs[-SCORED:]
        start = work / "start.onnx"
        subprocess.run([PROGRAM, "export", str(SIMULATED_ALONE), str(start)], check=True)
        before = measure(start, scored, arguments.data, work / "picks_before")
        rows = []
        for case in CASES:
            model, seconds = finetune(case, micrographs[: case.micrographs], scored, arguments.data, work)
            figures = measure(str(model), scored, arguments.data, work / f"picks_{case.name}")
            row = {"micrographs": case.micrographs, "complete": case.complete, "label_share": case.share}
            row["unlabelled"] = SCORED if case.unlabelled else 0
            rows.append({**row, "seconds": seconds, **figures})
            print(rows[-1], flush=True)
    result = {"matching": LENGTHS.rule, "scored": [path.stem for path in scored], "before": before, "finetuned": rows}
    save(__file__, {**circumstances(sys.argv), **result})
    plot(result_path(__file__, ".json"), draw)


if __name__ == "__main__":
    main()
