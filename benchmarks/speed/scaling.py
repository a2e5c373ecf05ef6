"""What a run costs against the number of micrographs, pixels, particles and cores.

Whole runs of `gtpick-rt pick` on synthetic micrographs, noise with dark discs; several names may be
links to one file. A line is fitted to each (scaling_lines.py). Writes results/scaling.json and
.png.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from benchmarks.shared.common import circumstances, measure, pick_command, result_path, save
from benchmarks.shared.plots import plot
from benchmarks.speed.scaling_lines import draw, lines
from gtpick_rt.output.layout import summary_path

PIXEL_SIZE_A = 1.5
COUNTS = (10, 30, 100, 300, 1000, 3000, 10_000)
SMALL = (512, 512, 48, 12)
"""Of the sweep over counts: width, height, diameter in px, and particles."""
SIZES = ((1024, 1024), (2048, 2048), (4096, 4096), (5760, 4092), (8192, 8192), (11520, 8184))
DIAMETER_PX = 108
APART = 2.5
"""Distance of the particles in diameters, in the sweeps that do not vary it."""
PARTICLES = (0, 1250, 2500, 5000)
DENSE_SIDE, DENSE_DIAMETER_PX = 4096, 40
"""Of the sweep over particles: 5,000 just fit."""
ROUNDS = 3
PATIENCE_S = 60
"""A run that takes longer is not repeated."""
FEW = 2
MEGAPIXELS = 200
"""How many more than `FEW` micrographs tell the cost of each, in pixels."""
LINKS = 1000
"""Names of one file: file systems limit them."""


def places(rng: np.random.Generator, width: int, height: int, diameter_px: float, particles: int) -> Iterable[Any]:
    """Centres x, y of so many particles on a jittered lattice, none over the border."""
    if not particles:
        return []
    inner = np.array([width, height]) - 2 * diameter_px
    columns = int(np.ceil(np.sqrt(particles * inner[0] / inner[1])))
    rows = -(-particles // columns)
    step = inner / (columns, rows)
    lattice = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)[:particles]
    jitter = np.maximum(step - 1.2 * diameter_px, 0) * rng.uniform(-0.5, 0.5, lattice.shape)
    return diameter_px + (lattice + 0.5) * step + jitter


def write_micrograph(path: Path, width: int, height: int, diameter_px: float, particles: int) -> None:
    """Write noise with dark discs, two standard deviations deep, as a float16 MRC file."""
    rng = np.random.default_rng(particles)
    image = rng.standard_normal((height, width), np.float32)
    reach = int(diameter_px / 2) + 1
    for x, y in places(rng, width, height, diameter_px, particles):
        left, top = int(x) - reach, int(y) - reach
        part = image[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        part[(columns + left - x) ** 2 + (rows + top - y) ** 2 < (diameter_px / 2) ** 2] -= 2
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(image.astype(np.float16))
        mrc.voxel_size = PIXEL_SIZE_A


def fill(folder: Path, count: int, *what: float) -> Path:
    """A folder of so many links to equal files; `what` are arguments of `write_micrograph`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(count):
        name = folder / f"micrograph_{number:05}.mrc"
        if number % LINKS == 0:
            source = name
            _elsewhere(source, *what)
        else:
            name.hardlink_to(source)
    return folder


def _elsewhere(path: Path, *what: float) -> None:
    """Write a micrograph in another process.

    A large one would count towards our own peak memory.
    """
    process = multiprocessing.get_context("spawn").Process(target=write_micrograph, args=(path, *what))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{path}: could not be written")


class Bench:
    """The measurement of runs, in one folder of work."""

    def __init__(self, work: Path, model: str | None) -> None:
        self.work, self.model = work, model

    def run(self, inputs: list[Path], diameter_px: float, cores: int = 0) -> dict[str, float]:
        """One run, on so many cores or all; with the picks per micrograph."""
        out = self.work / "picks"
        shutil.rmtree(out, ignore_errors=True)
        some = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
        command = pick_command(inputs, out, self.model, diameter_px * PIXEL_SIZE_A)
        figures = measure(["taskset", "--cpu-list", some, *command] if cores else command)
        micrographs = json.loads(summary_path(out).read_text())["micrographs"]
        return {**figures, "picks": statistics.mean(micrograph["picks"] for micrograph in micrographs)}

    def whole(self, folder: Path, diameter_px: float) -> dict[str, Any]:
        """Whole runs on all files of a folder; long ones are not repeated."""
        runs = [self.run([folder], diameter_px)]
        while len(runs) < ROUNDS and runs[0]["seconds"] < PATIENCE_S:
            runs.append(self.run([folder], diameter_px))
        return {**medians(runs), "runs": runs}

    def further(self, folder: Path, diameter_px: float, cores: int = 0) -> dict[str, Any]:
        """What each further micrograph costs: runs on all files of a folder less runs on `FEW`."""
        files = sorted(folder.iterdir())
        rounds = []
        for _ in range(ROUNDS):
            few = self.run(files[:FEW], diameter_px, cores)
            many = self.run(files, diameter_px, cores)
            rounds.append(difference(few, many, len(files) - FEW))
        return {"micrographs": len(files), **medians(rounds), "runs": rounds}


def difference(few: dict[str, float], many: dict[str, float], further: int) -> dict[str, float]:
    """Costs per further micrograph of a longer run; memory and picks are the longer run's own."""
    each = {name: (many[name] - few[name]) / further for name in ("seconds", "cpu_seconds", "system_seconds")}
    return {**many, **each, "micrographs_per_s": 1 / each["seconds"]}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def over_counts(bench: Bench) -> list[dict[str, Any]]:
    """Whole runs on more and more small micrographs."""
    rows = []
    for count in COUNTS:
        folder = fill(bench.work / "in", count, *SMALL)
        rows.append({"micrographs": count, **bench.whole(folder, SMALL[2])})
        show(f"{count} micrographs, run", rows[-1])
    return rows


def over_sizes(bench: Bench) -> list[dict[str, Any]]:
    """Further micrographs of more and more pixels, with particles in proportion."""
    rows = []
    for width, height in SIZES:
        megapixels = width * height / 1e6
        particles = round(width * height / (APART * DIAMETER_PX) ** 2)
        count = FEW + max(2, round(MEGAPIXELS / megapixels))
        folder = fill(bench.work / "in", count, width, height, DIAMETER_PX, particles)
        size = {"width": width, "height": height, "megapixels": megapixels}
        rows.append({**size, **bench.further(folder, DIAMETER_PX)})
        show(f"{width} x {height}, each", rows[-1])
    return rows


def over_particles(bench: Bench) -> list[dict[str, Any]]:
    """Further micrographs of one size with more and more particles."""
    rows = []
    for particles in PARTICLES:
        folder = fill(bench.work / "in", FEW + 3, DENSE_SIDE, DENSE_SIDE, DENSE_DIAMETER_PX, particles)
        rows.append({"particles": particles, **bench.further(folder, DENSE_DIAMETER_PX)})
        show(f"{rows[-1]['picks']} picks of {particles} discs, each", rows[-1])
    return rows


def over_cores(bench: Bench) -> list[dict[str, Any]]:
    """Further micrographs on one core, on two, on four and so on."""
    side, rows = 4096, []
    particles = round((side / APART / DIAMETER_PX) ** 2)
    folder = fill(bench.work / "in", FEW + round(MEGAPIXELS / side**2 * 1e6), side, side, DIAMETER_PX, particles)
    available = len(os.sched_getaffinity(0))
    for cores in (2**power for power in range(available.bit_length())):
        rows.append({"cores": cores, **bench.further(folder, DIAMETER_PX, cores)})
        show(f"{cores} cores, each", rows[-1])
    return rows


def show(what: str, row: dict[str, Any]) -> None:
    """Print one row."""
    print(f"{what:35} {row['seconds']:9.3f} s  {row['cpu_seconds']:9.3f} s of CPU {row['peak_MB']:7.0f} MB", flush=True)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where to put micrographs and picks, by default temporary")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        bench = Bench(Path(work), arguments.model)
        sweeps = {
            "counts": over_counts(bench),
            "sizes": over_sizes(bench),
            "particles": over_particles(bench),
            "cores": over_cores(bench),
        }
    result = circumstances(sys.argv) | {"lines": lines(sweeps)} | sweeps
    save(__file__, result)
    plot(result_path(__file__, ".json"), draw)


if __name__ == "__main__":
    main()
