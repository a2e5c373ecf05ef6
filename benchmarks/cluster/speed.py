"""What do workers of Dask cost beside one process, and what do two of them bring?

    python benchmarks/cluster/speed.py

Synthetic float16 micrographs of 4096 x 4096 in the page cache are picked in turns: in one process
(the local pipeline), and in one or two workers, on one core or two. Counted are the seconds between
the first micrograph that is done and the last, over their number less one: starting, which takes
longer with workers, is not in it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.common import circumstances, save
from gtpick_rt.arrivals.jobs import Job, find_jobs
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.cluster import driver
from gtpick_rt.cluster.specs import LocalWorkers
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import run, settings_of
from gtpick_rt.proof.opening import open_picker

COUNT = 14
ROUNDS = 3
SIDE_PX, DIAMETER_A = 4096, 160.0
WAYS = {
    "one process, 1 core": (1, 0),
    "one process, 2 cores": (2, 0),
    "1 worker, 1 core": (1, 1),
    "1 worker, 2 cores": (2, 1),
    "2 workers, 2 cores": (2, 2),
}
"""Cores, and workers; none is the local pipeline."""


def seconds_each(jobs: Sequence[Job], workers: int, folder: Path) -> float:
    """Of each further micrograph."""
    done: list[float] = []
    listeners = Listeners(done=lambda record: done.append(time.perf_counter()))
    picker = open_picker(DIAMETER_A, backend="cpu")
    with OutputFolder(folder / "out", force=True) as output:
        common: dict[str, Any] = {"listeners": listeners}
        arguments = (Listed(jobs), picker, output, settings_of(picker))
        if workers:
            with workers_at(LocalWorkers(workers), folder) as pool:
                driver.run(pool, *arguments, model=None, backend="cpu", **common)
        else:
            run(*arguments, **common)
    return (done[-1] - done[0]) / (len(done) - 1)


def on_cores(cores: int, measure: Callable[[], float]) -> float:
    """Measure on so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        return measure()
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Measure, print and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        write_synthetic(folder / "in", COUNT, SIDE_PX, SIDE_PX, DIAMETER_A)
        jobs = find_jobs([str(folder / "in")]).jobs
        for _ in range(ROUNDS):
            for way, (cores, workers) in WAYS.items():
                taken[way].append(on_cores(cores, lambda n=workers: seconds_each(jobs, n, folder)))  # type: ignore[misc]
    for way, seconds in taken.items():
        print(f"{way:22} {statistics.median(seconds):.3f} s per micrograph  ({', '.join(f'{s:.3f}' for s in seconds)})")

    def ratio(way: str, other: str) -> float:
        """Median over the rounds."""
        return statistics.median(a / b for a, b in zip(taken[way], taken[other], strict=True))

    derived = {
        "overhead_of_1_worker": ratio("1 worker, 2 cores", "one process, 2 cores") - 1,
        "overhead_of_2_workers": ratio("2 workers, 2 cores", "one process, 2 cores") - 1,
        "efficiency_1_to_2_workers": ratio("1 worker, 1 core", "2 workers, 2 cores") / 2,
        "efficiency_1_to_2_cores_in_one_process": ratio("one process, 1 core", "one process, 2 cores") / 2,
    }
    for name, value in derived.items():
        print(f"{name}: {value:.3f}")
    save(__file__, circumstances(sys.argv) | {"seconds_per_micrograph": taken, **derived})


if __name__ == "__main__":
    main()
