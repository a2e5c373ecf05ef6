"""What a larger network, another stem or another working scale is worth, and what it costs.

    python benchmarks/accuracy/prepare_real.py WORK/real --data DATA
    python benchmarks/accuracy/network_sizes.py --work WORK --structures STRUCTURES --steps 2000

Each network begins with nothing and is trained alike, half on simulated tiles and half on every
other micrograph of the labelled sets and of those where there is nothing to pick; it is scored on
the other half of the labelled ones, at the best threshold, one-to-one within a third of the
diameter, whole particles only. At the finer scale a network sees particles a third larger, and so
more pixels of each; at the coarser one a third smaller, and so fewer tiles. Seconds are of a whole
EMPIAR-10017 micrograph on one core in PyTorch, all networks in turns, the median of several rounds:
their ratio counts. One training each, so small differences mean little. Training can be stopped and
goes on when called again; with --networks some are compared.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.labelled_sets import best_of, curves_of
from benchmarks.accuracy.leave_one_out import HALVES, PROCEDURALS, numbered
from benchmarks.accuracy.prepare_real import JUDGED
from benchmarks.shared.common import circumstances, save
from benchmarks.speed.model_size import size
from gtpick_model.config import NANO, SMALL, ModelConfig
from gtpick_model.projections import kept_libraries
from gtpick_model.real.looks import plain
from gtpick_model.real.specimens import RealMicrograph, read_folders
from gtpick_model.real.teacher import detect_whole
from gtpick_model.simulator.field import Conditions
from gtpick_model.training import Schedule, Trainer
from gtpick_model.weights import load_weights

NARROWER = replace(NANO, stem=(16, 32))
"""As up to version 5."""


def at_scale(config: ModelConfig, zoom: float) -> ModelConfig:
    """The same network for particles so many times as large, in pixels."""
    highpass_px = int(zoom * config.highpass_px) // 2 * 2 + 1  # odd, so that it has a middle
    return replace(config, nominal_diameter_px=zoom * config.nominal_diameter_px, highpass_px=highpass_px)


NETWORKS = {
    "nano": NANO,
    "nano, narrower stem": NARROWER,
    "nano, finer scale": at_scale(NANO, 4 / 3),
    "nano, coarser scale": at_scale(NANO, 2 / 3),
    "nano, narrower stem, coarser scale": at_scale(NARROWER, 2 / 3),
    "small": SMALL,
    "small, coarser scale": at_scale(SMALL, 2 / 3),
}
ROUNDS = 3


def conditions(config: ModelConfig) -> Conditions:
    """Those of training, for particles as large as the network's."""
    low, high = Conditions().extent_px
    zoom = config.nominal_diameter_px / NANO.nominal_diameter_px
    return Conditions(extent_px=(zoom * low, zoom * high))


def train(name: str, arguments: argparse.Namespace) -> Trainer:
    """Train one network to the end, or go on with it."""
    config = NETWORKS[name]
    micrographs = [each for each, number in halves(arguments.work, config) if number % 2 == HALVES["half_a"]]
    libraries = kept_libraries(arguments.structures, PROCEDURALS, print)
    schedule = Schedule(
        steps=arguments.steps,
        batch=16,
        warm_up=min(200, arguments.steps // 10),
        ema=0.995,
        evaluate_every=min(1000, arguments.steps),
    )
    out = arguments.work / "sizes" / name.replace(", ", "_").replace(" ", "_")
    trainer = Trainer(config, schedule, libraries, out, torch.device("cpu"), conditions(config), real=micrographs)

    def on_step(step: int) -> None:
        if step % schedule.evaluate_every == 0 or step == schedule.steps:
            print(time.strftime("%H:%M:%S"), name, trainer.describe(), flush=True)

    trainer.run(on_step)
    return trainer


def halves(work: Path, config: ModelConfig) -> list[tuple[RealMicrograph, int]]:
    """All micrographs to train on, with their numbers in their folders."""
    folders = [folder for folder in sorted((work / "real").iterdir()) if folder.name not in JUDGED]
    return numbered(read_folders(folders, config))


def score(trainer: Trainer, work: Path) -> dict[str, Any]:
    """Figures of the other half, by specimen."""
    network, _ = load_weights(trainer.folder / "weights.safetensors")
    others = [
        micrograph
        for micrograph, number in halves(work, network.config)
        if micrograph.particles == "labelled" and number % 2 != HALVES["half_a"]
    ]
    found = curves_of(network, others, network.config.nominal_diameter_px)
    return {name: best_of(each) for name, each in found.items()}


def seconds(trainers: Mapping[str, Trainer], work: Path) -> dict[str, float]:
    """What a whole micrograph takes each network, in turns."""
    images = {name: plain(halves(work, each.config)[0][0], each.config)[0] for name, each in trainers.items()}
    taken: dict[str, list[float]] = {name: [] for name in trainers}
    torch.set_num_threads(1)
    for _ in range(ROUNDS):
        for name, trainer in trainers.items():
            began = time.perf_counter()
            detect_whole(trainer.average.eval(), images[name])
            taken[name].append(time.perf_counter() - began)
    return {name: round(float(np.median(each)), 3) for name, each in taken.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score all, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of prepared data and of runs")
    parser.add_argument("--structures", type=Path, help="as `gtpick-rt train --structures`")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = parser.parse_args(arguments)
    trainers = {name: train(name, given) for name in given.networks}
    taken = seconds(trainers, given.work)
    rows = {
        name: {"seconds": taken[name], **size(trainer.config), "sets": score(trainer, given.work)}
        for name, trainer in trainers.items()
    }
    for name, row in rows.items():
        print(f"{name:18} {row['seconds']:.2f} s", row["sets"])
    command = ["python", __file__, "--steps", str(given.steps), "--networks", *given.networks]
    save(__file__, circumstances(command) | {"networks": rows})


if __name__ == "__main__":
    main()
