"""The network from which others start: long training on simulated particles alone.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/starting_network.py --work WORK --structures STRUCTURES --rounds 3

It begins with the weights of version 2, whose stem is made wider in such a way that their
answers stay. In each round several trainings begin with the same weights, each with tiles of its
own and in a process of its own, and the next round begins with the mean of their weights: so all
cores are used, and what one of them has learned by chance is evened out.

No labelled micrograph is shown, so that a network for a specimen that it must not know may start
from it. A tenth of the tiles are cut out of micrographs on which there is nothing to pick, and
simulated particles lie on their ice. After each round the mean is looked at on held-out structures,
where its scale, threshold and calibration are chosen too, and on the labelled sets, of which it
has seen nothing (whole particles, at the best threshold, one-to-one within a third of the
diameter). Can be stopped, and goes on when called again; `--start` goes on from weights
that were kept, whose tiles are counted.

Version 2 knows ribosomes, which EMPIAR-10028 shows: `--without empiar10028`
begins with nothing and leaves their structures out. Its first round is of one training, for what
different random weights become has no mean.
"""

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.labelled_sets import best_of, curves_of
from benchmarks.accuracy.leave_one_out import PROCEDURALS, STRUCTURES_OF
from benchmarks.accuracy.prepare_real import JUDGED, SPECIMENS
from benchmarks.shared.common import VERSION_2, circumstances, result_path, save
from benchmarks.shared.plots import plot
from gtpick_model.config import NANO, ModelConfig
from gtpick_model.network import GTPick
from gtpick_model.projections import kept_libraries
from gtpick_model.real.specimens import RealMicrograph, read_folders
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.training import Schedule, Start, Trainer
from gtpick_model.weights import load_weights, mean_of, save_weights
from gtpick_model.working_scale import choose_scale

BATCH = 16
TILES = "tiles"
"""Where weights tell how many tiles of 128 px they have seen."""
SEEN_BEFORE = 3500 * 32
"""Tiles that version 2 has seen."""


def widened(network: GTPick, stem: tuple[int, int]) -> GTPick:
    """The same network with a wider stem, and the same answers: what there was sees nothing yet of
    what is new.
    """
    wide = GTPick(replace(network.config, stem=stem))
    state = wide.state_dict()
    for name, old in network.state_dict().items():
        new = state[name]
        if old.ndim == 4 and old.shape != new.shape:
            new[: len(old), old.shape[1] :] = 0
        new[tuple(slice(n) for n in old.shape)] = old
    return wide.eval()


def train(start: Path | None, folder: Path, seed: int, arguments: argparse.Namespace) -> Path:
    """Train from weights, or from nothing, to weights, or go on; returns the file of the latter."""
    torch.set_num_threads(2)  # of which one makes tiles
    schedule = Schedule(
        steps=arguments.steps,
        batch=BATCH,
        learning_rate=7e-4,
        ema=0.998,
        evaluate_every=min(1000, arguments.steps),
        real=0.1,
        start_share=0,
        seed=seed,
    )
    begun = Start(*load_weights(start)) if start else None
    config = begun.network.config if begun else NANO
    library, validation = kept_libraries(arguments.structures, PROCEDURALS, print)
    trainer = Trainer(
        config,
        schedule,
        (library.without(STRUCTURES_OF.get(arguments.without, frozenset())), validation),
        folder,
        torch.device("cpu"),
        real=[each for each in micrographs(arguments.work, config) if each.particles != "labelled"],
        start=begun,
    )

    def on_step(step: int) -> None:
        if step % schedule.evaluate_every == 0 or step == schedule.steps:
            print(time.strftime("%H:%M:%S"), folder.name, trainer.describe(), flush=True)

    trainer.run(on_step)
    return folder / "weights.safetensors"


def micrographs(work: Path, config: ModelConfig) -> list[RealMicrograph]:
    """All that may be trained on or, where they are labelled, looked at."""
    folders = [folder for folder in sorted((work / "real").iterdir()) if folder.name not in JUDGED]
    return read_folders(folders, config)


def judge(network: GTPick, tiles: int, out: Path, library: ViewLibrary, every: Sequence[RealMicrograph]) -> None:
    """Choose the scale of a mean, keep it as `out` with its tiles, and its figures beside it."""
    labelled = [each for each in every if each.particles == "labelled"]
    unlabelled = [each for each in every if each.particles != "labelled"]
    working = choose_scale(network, unlabelled, library, Schedule(steps=1).evaluation_tiles)
    found = working.sets | curves_of(network, labelled, working.diameter_px)
    figures: dict[str, Any] = {TILES: tiles, "diameter_px": round(working.diameter_px, 2)}
    figures |= {name: best_of(each) for name, each in found.items()}
    out.with_suffix(".json").write_text(json.dumps(figures))
    save_weights(out, network, working.provenance | {"steps": str(tiles // BATCH), TILES: str(tiles)})
    print(time.strftime("%H:%M:%S"), out.name, figures, flush=True)


def draw(result: dict[str, Any], path: Path) -> None:
    """Plot best F1 on each set against the tiles that were seen."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rounds = result["rounds"]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name in ("clear", "faint", *SPECIMENS):
        style = "--" if name in SPECIMENS else "-"
        label = f"{name.replace('empiar', 'EMPIAR-')}, never seen" if name in SPECIMENS else f"simulated, {name}"
        values = [each[name]["best_f1"] for each in rounds]
        axes.plot([each[TILES] / 1000 for each in rounds], values, style, marker="o", label=label)
    axes.set(xlabel="thousands of training tiles of 128 px", ylabel="best F1")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Train round after round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data and of runs")
    parser.add_argument("--structures", type=Path, help="as `gtpick-rt train --structures`")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--start", type=Path, help="weights of this script to go on from")
    begin.add_argument("--without", choices=STRUCTURES_OF, help="begin with nothing, for what never saw this set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000, help="of each training in a round")
    parser.add_argument("--trainings", type=int, default=2, help="side by side in a round")
    arguments = parser.parse_args()
    suffix = f"_without_{arguments.without}" if arguments.without else ""
    folder = arguments.work / f"start{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    _, validation = kept_libraries(arguments.structures, PROCEDURALS, print)
    every = micrographs(arguments.work, NANO)
    means = [folder / f"round_{number}.safetensors" for number in range(arguments.rounds + 1)]
    if not arguments.without and not means[0].exists():
        torch.manual_seed(0)
        network, provenance = load_weights(arguments.start or VERSION_2)
        if not arguments.start:
            network = widened(network, NANO.stem)
        judge(network, int(provenance.get(TILES, SEEN_BEFORE)), means[0], validation, every)
    with multiprocessing.get_context("spawn").Pool(arguments.trainings) as pool:
        for number, (before, after) in enumerate(itertools.pairwise(means), 1):
            if after.exists():
                continue
            start = before if before.exists() else None
            count = arguments.trainings if start else 1
            tiles = (seen(start) if start else 0) + count * arguments.steps * BATCH
            runs = [(folder / f"round_{number}_{i}", tiles + i) for i in range(count)]
            trained = pool.starmap(partial(train, arguments=arguments), [(start, *run) for run in runs])
            mean = mean_of([load_weights(path)[0] for path in trained], [1 / len(trained)] * len(trained))
            judge(mean, tiles, after, validation, every)
    rounds = [json.loads(path.with_suffix(".json").read_text()) for path in means if path.exists()]
    if arguments.start:
        earlier = json.loads(result_path(__file__, ".json").read_text())["rounds"]
        rounds = [each for each in earlier if each[TILES] < rounds[0][TILES]] + rounds
    command = ["python", __file__, "--rounds", str(arguments.rounds), "--steps", str(arguments.steps)]
    if arguments.without:
        command += ["--without", arguments.without]
    save(__file__, circumstances(command) | {"rounds": rounds}, f"{suffix}.json")
    plot(result_path(__file__, f"{suffix}.json"), draw)


def seen(weights: Path) -> int:
    """How many tiles the network has seen."""
    return int(load_weights(weights)[1][TILES])


if __name__ == "__main__":
    main()
