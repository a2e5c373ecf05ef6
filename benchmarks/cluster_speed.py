"""What do workers of Dask cost beside one process, and what do two of them bring?

    python benchmarks/cluster_speed.py

Whole `gtpick-rt pick` runs on synthetic float16 micrographs of 4096 x 4096 in the page cache, in turns: in this process
(the local pipeline), and in one or two workers, on one core or two. Seconds for each further micrograph are the
difference between runs of many and of few over the difference of their numbers, so that starting does not count.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import circumstances, measure, pick_command, save

from gtpick_rt.bench import write_synthetic

FEW, MANY = 4, 16
ROUNDS = 3
SIDE_PX, DIAMETER_A = 4096, 160.0
WAYS: dict[str, tuple[int, tuple[str, ...]]] = {
    "one process, 1 core": (1, ()),
    "one process, 2 cores": (2, ()),
    "1 worker, 1 core": (1, ("--workers", "1")),
    "1 worker, 2 cores": (2, ("--workers", "1")),
    "2 workers, 2 cores": (2, ("--workers", "2")),
}


def seconds(micrographs: list[Path], out: Path, cores: int, options: tuple[str, ...]) -> float:
    """Of one run, on so many cores."""
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    command = ["taskset", "-c", chosen, *pick_command(micrographs, out, None, DIAMETER_A), *options, "--force"]
    return measure(command)["seconds"]


def main() -> None:
    """Measure, print and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        write_synthetic(Path(folder) / "in", MANY, SIDE_PX, SIDE_PX, DIAMETER_A)
        paths = sorted((Path(folder) / "in").iterdir())
        for _ in range(ROUNDS):
            for way, (cores, options) in WAYS.items():
                few, many = (seconds(paths[:n], Path(folder) / "out", cores, options) for n in (FEW, MANY))
                each = (many - few) / (MANY - FEW)
                taken[way].append({"each_s": each, "start_s": few - FEW * each})
    medians = {
        way: {name: statistics.median(run[name] for run in runs) for name in ("each_s", "start_s")}
        for way, runs in taken.items()
    }
    for way, figures in medians.items():
        print(f"{way:22} {figures['each_s']:.3f} s per micrograph, start {figures['start_s']:.1f} s")

    def ratio(way: str, other: str) -> float:
        """Median of the rounds, of which each compares two runs of about the same time."""
        return statistics.median(a["each_s"] / b["each_s"] for a, b in zip(taken[way], taken[other], strict=True))

    derived: dict[str, Any] = {
        "overhead_of_2_workers": ratio("2 workers, 2 cores", "one process, 2 cores") - 1,
        "overhead_of_1_worker": ratio("1 worker, 2 cores", "one process, 2 cores") - 1,
        "efficiency_1_to_2_workers": ratio("1 worker, 1 core", "2 workers, 2 cores") / 2,
        "efficiency_1_to_2_cores_in_one_process": ratio("one process, 1 core", "one process, 2 cores") / 2,
    }
    for name, value in derived.items():
        print(f"{name}: {value:.3f}")
    save("cluster_speed", circumstances(sys.argv) | {"medians": medians, "runs": taken, **derived})


if __name__ == "__main__":
    main()
