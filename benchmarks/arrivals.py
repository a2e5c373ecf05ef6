"""What watching a folder costs: searches, memory, and how soon a new micrograph is given after a restart.

Of each number of files, all but one are known or finished. The files are empty but for the new one, and local: on a
network file system every look is a round trip.
"""

import argparse
import gc
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from common import circumstances, save

from gtpick_rt.arrivals import Timing, Watched, stamp_of
from gtpick_rt.folders import DEFAULT_NAMES, Folder
from gtpick_rt.inputs import Job

LATER = 20
"""Later searches, of which the median counts."""


def make(folder: Path, files: int) -> dict[str, tuple[int, int]]:
    """Fill `folder`; returns what a run would have noted of its files."""
    finished = {}
    for number in range(files):
        path = folder / f"FoilHole_{number:08}_Data_31419_fractions.mrc"
        path.touch()
        stamp = stamp_of(path)
        finished[path.stem] = (stamp.size, stamp.mtime_ns)
    return finished


def add_one(folder: Path) -> None:
    """Write a whole micrograph whose name comes after all others."""
    with mrcfile.new(folder / "new.mrc") as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32))


def searches(folder: Path) -> dict[str, float]:
    """Seconds of a first search and of later ones, when all names are known."""
    place = Folder(folder, False, DEFAULT_NAMES)
    seconds = []
    known: frozenset[str] = frozenset()
    for _ in range(LATER + 1):
        started = time.perf_counter()
        found, _ = place.search(known)
        seconds.append(time.perf_counter() - started)
        known = known or frozenset(found)
    return {"first_search_s": seconds[0], "later_search_s": statistics.median(seconds[1:])}


def restart(folder: Path, finished: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Seconds until the one new micrograph is given, and the memory that the watcher then takes for each file."""
    gc.collect()
    tracemalloc.start()
    traced = Watched([str(folder)], finished=finished)
    first(traced)
    bytes_each = tracemalloc.get_traced_memory()[0] / len(finished)
    tracemalloc.stop()
    started = time.perf_counter()
    first(Watched([str(folder)], finished=finished))
    return {"first_new_s": time.perf_counter() - started, "bytes_per_file": bytes_each}


def first(source: Watched) -> Job:
    """The first job that a source gives."""
    arrivals: Iterator[Any] = iter(source)
    return next(arrival for arrival in arrivals if isinstance(arrival, Job))


def measure(files: int) -> dict[str, float]:
    """All figures for one number of files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finished = make(folder, files)
        add_one(folder)
        figures = {"files": files, **searches(folder), **restart(folder, finished)}
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 50_000, 100_000])
    results = [measure(files) for files in parser.parse_args().files]
    for figures in results:
        print("  ".join(f"{name} {value:g}" for name, value in figures.items()))
    peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    save(
        "arrivals",
        circumstances(["python", *sys.argv]) | {"settle_s": Timing().settle_s, "peak_MB": peak_MB, "runs": results},
    )


if __name__ == "__main__":
    main()
