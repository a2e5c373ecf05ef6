"""How much of the weights with which a training on real micrographs began is to stay.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/start_share.py --work WORK --structures STRUCTURES --steps 500

One network for each labelled specimen is trained on it alone, beside simulation and micrographs on
which there is nothing to pick, as `leave_one_out.py` trains on all. Its weights are mixed with
those of its start, and each mixture is scored on all specimens: on the one in training, and on two
that were not (whole particles, at the best threshold, one-to-one within a third of the diameter).
A share is chosen for each specimen by the other two, trained on one and scored on the other, so
that no share is chosen by a specimen for which it is told. The structures of simulation are the
same for all. Training can be stopped and goes on when called again.
"""

import argparse
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.accuracy.labelled_sets import best_of, curves_of
from benchmarks.accuracy.leave_one_out import PROCEDURALS
from benchmarks.accuracy.prepare_real import JUDGED, SPECIMENS
from benchmarks.shared.common import SIMULATED_ALONE, circumstances, save
from gtpick_model.network import GTPick
from gtpick_model.projections import kept_libraries
from gtpick_model.real.specimens import read_folders
from gtpick_model.training import Schedule, Start, Trainer
from gtpick_model.weights import load_weights, mean_of

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
DIAMETER_PX = 20.0
"""Of particles, in all networks: what ships sees them best so."""

Scores = Mapping[str, Mapping[float, Mapping[str, float]]]
"""By what was trained on, share of the start, and what was scored."""


def train(specimen: str, arguments: Namespace) -> GTPick:
    """The network that is trained on one specimen alone, or go on with it."""
    start = Start(*load_weights(arguments.start))
    others = {name for name in SPECIMENS if name != specimen} | set(JUDGED)
    folders = [folder for folder in sorted((arguments.work / "real").iterdir()) if folder.name not in others]
    steps = arguments.steps
    schedule = Schedule(
        steps=steps,
        batch=16,
        learning_rate=7e-4,
        warm_up=steps // 10,
        ema=0.99,
        evaluate_every=steps,
        start_share=0,
    )
    trainer = Trainer(
        start.network.config,
        schedule,
        kept_libraries(arguments.structures, PROCEDURALS, print),
        arguments.work / "start_share" / specimen,
        torch.device("cpu"),
        real=read_folders(folders, start.network.config),
        start=start,
    )
    trainer.run(lambda step: None)
    print(time.strftime("%H:%M:%S"), specimen, trainer.describe(), flush=True)
    return trainer.average


def chosen(scores: Scores, specimen: str) -> float:
    """The share at which the other specimens score best on each other."""
    others = [name for name in scores if name != specimen]

    def total(share: float) -> float:
        return sum(scores[on][share][of] for on in others for of in others if of != on)

    return max(next(iter(scores.values())), key=total)


def main() -> None:
    """Train, mix, score, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data and of runs")
    parser.add_argument("--structures", type=Path, help="as `gtpick-rt train --structures`")
    parser.add_argument("--start", type=Path, default=SIMULATED_ALONE, help="weights that know no labelled micrograph")
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    start, _ = load_weights(arguments.start)
    labelled = read_folders([arguments.work / "real" / name for name in SPECIMENS], start.config)
    rows: dict[str, dict[float, dict[str, dict[str, float]]]] = {}
    for name in SPECIMENS:
        trained = train(name, arguments)
        rows[name] = {}
        for share in SHARES:
            found = curves_of(mean_of([start, trained], [share, 1 - share]), labelled, DIAMETER_PX)
            rows[name][share] = {of: best_of(each) for of, each in found.items()}
            print(name, share, rows[name][share], flush=True)
    f1 = {
        on: {share: {of: each["best_f1"] for of, each in sets.items()} for share, sets in shares.items()}
        for on, shares in rows.items()
    }
    by_others = {name: chosen(f1, name) for name in SPECIMENS}
    print("chosen by the others:", by_others)
    command = ["python", __file__, "--start", arguments.start.name, "--steps", str(arguments.steps)]
    save(__file__, circumstances(command) | {"trained_on": rows, "chosen_by_the_others": by_others})


if __name__ == "__main__":
    main()
