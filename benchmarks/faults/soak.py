"""A day's micrographs, 86,400, as fast as they can be fed to one run that watches.

Does it keep memory or files open?

The network is absent and the micrographs are links to tiny ones; all else is the run of `gtpick-rt
pick --watch`.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.common import circumstances, save
from benchmarks.shared.tiny_runs import fake_picker, write_micrograph
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.records import Record

WARM = 2000
"""Micrographs after which growth is counted: by then everything is loaded."""
AHEAD = 500
"""The writer keeps that far ahead of the run."""
LINKS = 1000
"""Names of one file: file systems limit them."""
SAMPLE_EVERY = 1000


class Meter:
    """Samples memory and open files every so many micrographs."""

    def __init__(self) -> None:
        self.done, self.failed = 0, 0
        self.samples: list[dict[str, float]] = []
        self._started = time.monotonic()

    def __call__(self, record: Record) -> None:
        """Count one micrograph."""
        self.done += 1
        if self.done % SAMPLE_EVERY == 0:
            sample = {
                "micrographs": self.done,
                "seconds": round(time.monotonic() - self._started, 1),
                "rss_MB": round(_rss_MB(), 1),
                "descriptors": len(list(Path("/proc/self/fd").iterdir())),
                "threads": threading.active_count(),
            }
            self.samples.append(sample)
            print(sample, flush=True)


def _rss_MB() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def feed(folder: Path, count: int, meter: Meter) -> None:
    """Let micrographs appear, none of them before the run has nearly caught up."""
    source = folder.parent / "source.mrc"
    for number in range(count):
        if number % LINKS == 0:
            source = write_micrograph(folder.parent / f"source{number}.mrc")
        while number - meter.done > AHEAD:
            time.sleep(0.05)
        (folder / f"FoilHole_{number:08}_Data_31419_fractions.mrc").hardlink_to(source)


def soak(folder: Path, count: int) -> tuple[Meter, int]:
    """Pick so many micrographs; returns the meter and how many are in the lists at the end."""
    (folder / "in").mkdir()
    meter, picker = Meter(), fake_picker()
    threading.Thread(target=feed, args=(folder / "in", count, meter), daemon=True).start()
    with OutputFolder(folder / "out") as output:
        source = Watched([str(folder / "in")], timing=Timing(settle_s=0.2), until=count)
        pipeline.run(source, picker, output, settings_of(picker), listeners=Listeners(done=meter))
    return meter, len(json.loads((folder / "out" / "summary.json").read_text())["micrographs"])


def figures(meter: Meter, listed: int) -> dict[str, Any]:
    """What the samples say."""
    counted = [sample for sample in meter.samples if sample["micrographs"] >= WARM]
    memory, files = ([sample[name] for sample in counted] for name in ("rss_MB", "descriptors"))
    return {
        "micrographs": meter.done,
        "listed": listed,
        "seconds": counted[-1]["seconds"],
        "growth_MB": round(max(memory) - memory[0], 1),
        "descriptors": [min(files), max(files)],
        "samples": meter.samples,
    }


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micrographs", type=int, default=86_400)
    parser.add_argument("--folder", type=Path, help="where to work, by default on the disk of temporary files")
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = figures(*soak(Path(folder), options.micrographs))
    print({name: value for name, value in result.items() if name != "samples"})
    if not options.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | result)


if __name__ == "__main__":
    main()
