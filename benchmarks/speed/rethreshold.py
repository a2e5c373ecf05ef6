"""How long do `rethreshold` and `convert` take on a finished run of 5,000 micrographs?

All through the public commands, from the start of the process to its end, every file synced to the
disk. The run is made up: 500 detections on each micrograph at random places, with random scores, so
that the threshold parts them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.shared.common import PROGRAM, circumstances, save, without_sync
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import ModelRecord, Settings, Summary
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import Picks

WIDTH, HEIGHT = 5760, 4092
SETTINGS = Settings(
    model="made-up 1", model_sha256="", diameter_A=150.0, contrast="dark", threshold=0.5, pixel_size_A=None
)
CALLS = {
    "rethreshold_s": ["rethreshold", "--threshold", "0.6"],
    "convert_box_s": ["convert", "--formats", "box"],
    "convert_cs_s": ["convert", "--formats", "cs"],
    "rethreshold_with_box_and_cs_s": ["rethreshold", "--threshold", "0.4"],
}
"""In this order, on one folder."""
ROUNDS = 3


def prepare(out: Path, micrographs: int, detections: int) -> None:
    """Make an output folder as a run leaves it."""
    rng = np.random.default_rng(0)
    with without_sync(), OutputFolder(out) as output:
        output.begin(SETTINGS)
        for number in range(micrographs):
            xy = (rng.random((detections, 2)) * (WIDTH, HEIGHT)).astype(np.float32)
            found = Picks(xy, np.full(detections, 150, np.float32), rng.random(detections).astype(np.float32))
            stem = f"FoilHole_{number:08}_Data_31419_fractions"
            record = MicrographRecord(
                stem=stem,
                name=f"MotionCorr/job002/Movies/{stem}.mrc",
                path=f"MotionCorr/job002/Movies/{stem}.mrc",
                size=0,
                mtime_ns=0,
                width=WIDTH,
                height=HEIGHT,
                pixel_size_A=1.0,
                picks=int((found.score >= SETTINGS.threshold).sum()),
                detections=detections,
                seconds=1.0,
            )
            output.files.commit(record, found)
            output.note(record)
        model = ModelRecord(name="made-up", version="1", sha256="", floor=0.0)
        output.write_lists(
            Summary(
                command=["pick"],
                parameters={"threshold": SETTINGS.threshold},
                model=model,
                backend="none",
                seconds=0.0,
                stage_seconds={},
                picked=micrographs,
                totals=output.totals,
            )
        )
    os.sync()


def measure(out: Path) -> dict[str, float]:
    """Seconds of each call."""
    figures = {}
    for name, (command, *options) in CALLS.items():
        started = time.monotonic()
        subprocess.run([PROGRAM, command, str(out), *options], check=True)
        figures[name] = round(time.monotonic() - started, 1)
        os.sync()
    return figures


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micrographs", type=int, default=5_000)
    parser.add_argument("--detections", type=int, default=500, help="on each micrograph")
    parser.add_argument("--folder", type=Path, help="where to work, by default on the disk of temporary files")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            out = Path(folder) / "out"
            prepare(out, options.micrographs, options.detections)
            rounds.append(measure(out))
    result = {
        "micrographs": options.micrographs,
        "detections": options.detections,
        "load_average_at_end": os.getloadavg()[0],
        **{name: statistics.median(each[name] for each in rounds) for name in CALLS},
        "rounds": rounds,
    }
    print(result)
    if not options.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | result)


if __name__ == "__main__":
    main()
