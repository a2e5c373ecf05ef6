"""Seconds per micrograph beside Topaz, and beside CryoTransformer's filters, on the same cores.

    python benchmarks/speed/peers.py --peers VENV

VENV is an environment with topaz-em and opencv-python-headless. All take the same real micrographs,
from the page cache, in turns: each round runs every other program once on one micrograph and once
on three, and ours before each. The difference tells what a further micrograph costs once a program
has started.

Topaz runs as its manual says, `topaz preprocess` and then `topaz extract` with its default detector
and threshold. It is given all cores, as threads of PyTorch, and once more as processes besides, for
nobody documents which is faster, nor the scale at which its detectors were trained: so it runs at
both of topaz.py, binned as far as its own examples go, which is faster, and as RELION bins. Its
option to score in patches needs less memory but was slower, and is not used. Of CryoTransformer
only the filters are run, see cryotransformer_filters.py; OpenCV takes all cores by itself.

Writes results/peers.json and .png.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.topaz import LOWEST, PARTICLE_PX
from benchmarks.shared.common import (
    DATA,
    DIAMETER_A,
    PIXEL_SIZE_A,
    circumstances,
    convert,
    measure,
    pick_command,
    result_path,
    save,
)
from benchmarks.shared.plots import plot

COUNTS = (1, 3)
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))
OURS = "gtpick-rt"
COSTS = ("seconds", "cpu_seconds", "system_seconds")
Runs = dict[int, dict[str, float]]
"""What was measured, by the number of micrographs."""


@dataclass(frozen=True)
class Program:
    """Something that is measured."""

    name: str
    commands: Callable[[list[Path]], list[list[str]]]
    """The commands that take micrographs, one after the other."""

    def run(self, micrographs: list[Path], work: Path) -> dict[str, float]:
        """Run all commands with an empty folder of work: costs together, memory of the largest."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        parts = [measure(command) for command in self.commands(micrographs)]
        costs = {name: sum(part[name] for part in parts) for name in COSTS}
        return {**costs, "peak_MB": max(part["peak_MB"] for part in parts)}


def programs(venv: Path, work: Path, model: str | None) -> list[Program]:
    """Ours first."""
    filters = [str(venv / "bin" / "python"), str(Path(__file__).with_name("cryotransformer_filters.py"))]
    return [
        Program(OURS, lambda micrographs: [pick_command(micrographs, work / "picks", model)]),
        _topaz("Topaz", venv, PARTICLE_PX[0], 0, work),
        _topaz("Topaz, with processes", venv, PARTICLE_PX[0], CORES, work),
        _topaz("Topaz, binned as in RELION", venv, PARTICLE_PX[1], 0, work),
        Program("CryoTransformer's filters alone", lambda micrographs: [[*filters, *map(str, micrographs)]]),
    ]


def _topaz(name: str, venv: Path, particle_px: int, workers: int, work: Path) -> Program:
    """Topaz on micrographs binned to particles of about that size, and `workers` more processes."""
    scale = round(DIAMETER_A / PIXEL_SIZE_A / particle_px)
    topaz, small = str(venv / "bin" / "topaz"), work / "small"
    cores = [f"--num-workers={workers}", f"--num-threads={CORES}", "--device=-1"]
    preprocess = [topaz, "preprocess", f"--scale={scale}", f"--destdir={small}/", *cores]
    radius = round(DIAMETER_A / PIXEL_SIZE_A / 2 / scale)
    extract = [topaz, "extract", f"--radius={radius}", f"--threshold={LOWEST:g}", f"--up-scale={scale}", *cores]

    def commands(micrographs: list[Path]) -> list[list[str]]:
        binned = [str(small / micrograph.name) for micrograph in micrographs]
        return [[*preprocess, *map(str, micrographs)], [*extract, f"--output={work / 'picks.txt'}", *binned]]

    return Program(name, commands)


def measure_rounds(every: list[Program], micrographs: list[Path], work: Path) -> dict[str, list[Runs]]:
    """Run all in turns, ours before each of the others."""
    ours, *others = every
    measured: dict[str, list[Runs]] = {program.name: [] for program in every}
    for _ in range(ROUNDS):
        for other in others:
            for program in (ours, other):
                runs = {count: program.run(micrographs[:count], work) for count in COUNTS}
                measured[program.name].append(runs)
                seconds = ", ".join(f"{run['seconds']:.1f} s for {count}" for count, run in runs.items())
                print(f"{program.name:35} {seconds}", flush=True)
    return measured


def per_micrograph(rounds: list[Runs]) -> dict[str, Any]:
    """Costs of a further micrograph and of a start, with their ranges, and the largest memory."""
    few, many = COUNTS
    figures: dict[str, Any] = {}
    for cost in COSTS:
        further = [(runs[many][cost] - runs[few][cost]) / (many - few) for runs in rounds]
        start = [runs[few][cost] - each for runs, each in zip(rounds, further, strict=True)]
        figures[f"further_{cost}"] = spread(further)
        figures[f"start_{cost}"] = spread(start)
    return {**figures, "peak_MB": max(runs[many]["peak_MB"] for runs in rounds)}


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def times_ours(figures: dict[str, dict[str, Any]], cost: str) -> dict[str, float]:
    """How many times our cost each other program has, of medians."""
    ours = figures[OURS][cost]["median"]
    return {name: figure[cost]["median"] / ours for name, figure in figures.items() if name != OURS}


def versions(venv: Path) -> dict[str, str]:
    """Versions of what the other programs are made of, as they say themselves."""
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    names = ("topaz-em", "torch", "numpy", "opencv-python-headless")
    done = subprocess.run([venv / "bin" / "python", "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, done.stdout.split(), strict=True))


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars of seconds for each further micrograph, by the clock and of the processor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figures = result["figures"]
    figure, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
    at = np.arange(len(figures))
    looks = {"further_seconds": ("by the clock", "#0072B2"), "further_cpu_seconds": ("of the processor", "#E69F00")}
    for shift, (cost, (label, colour)) in zip((-0.2, 0.2), looks.items(), strict=True):
        middle, least, most = (
            np.array([f[cost][name] for f in figures.values()]) for name in ("median", "least", "most")
        )
        errors = [middle - least, most - middle]
        bars = axes.barh(at + shift, middle, 0.38, xerr=errors, color=colour, label=label, capsize=2)
        axes.bar_label(bars, [f"{value:.2g} s" if value < 10 else f"{value:.0f} s" for value in middle], padding=4)
    axes.set(xscale="log", xlabel=f"seconds for each further micrograph of 4096 x 4096 px, {result['device']}")
    axes.set_yticks(at, list(figures))
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="environment with topaz-em and OpenCV")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images/*.jpg (benchmarks/README.md)")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    found = versions(arguments.peers)
    with tempfile.TemporaryDirectory() as folder:
        micrographs = convert(arguments.data, Path(folder) / "micrographs")[: max(COUNTS)]
        work = Path(folder) / "work"
        every = programs(arguments.peers, work, arguments.model)
        measured = measure_rounds(every, micrographs, work)
        words = {program.name: program.commands([Path("MICROGRAPHS")]) for program in every}
    figures = {name: per_micrograph(rounds) for name, rounds in measured.items()}
    result = circumstances(sys.argv) | {
        "peers": found,
        "commands": {name: [shown(command) for command in commands] for name, commands in words.items()},
        "times_our_seconds": times_ours(figures, "further_seconds"),
        "times_our_cpu_seconds": times_ours(figures, "further_cpu_seconds"),
        "figures": figures,
        "rounds": measured,
    }
    for name, times in result["times_our_seconds"].items():
        print(f"{name:35} {times:6.1f} times our seconds, {result['times_our_cpu_seconds'][name]:6.1f} of CPU")
    save(__file__, result)
    plot(result_path(__file__, ".json"), draw)


def shown(command: list[str]) -> str:
    """A command line without the folders of this machine."""
    return " ".join(
        word.rpartition("=")[0] + "=" + Path(word).name if "=/" in word else Path(word).name for word in command
    )


if __name__ == "__main__":
    main()
