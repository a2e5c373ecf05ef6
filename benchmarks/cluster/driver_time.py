"""How much processor time does the driver need for a micrograph, scheduler and TLS included?

    python benchmarks/cluster/driver_time.py

Tiny micrographs are picked by two workers on this machine; counted is the processor time of the
process that gives them out and takes in what became of them. It bounds the rate of one run,
whatever its workers can do.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster.kills import WORKERS, make_micrographs, pick
from benchmarks.shared.common import circumstances, save
from gtpick_rt.cluster.specs import LocalWorkers
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.pipeline.bookkeeping import Listeners

COUNT = 600


def main() -> None:
    """Measure, print and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_micrographs(folder / "in", COUNT)
        with workers_at(LocalWorkers(WORKERS), folder) as pool:
            before = time.process_time()
            summary = pick(pool, folder, Listeners())
            each_s = (time.process_time() - before) / summary.picked
    print(f"{1e3 * each_s:.1f} ms of processor time for each of {summary.picked} micrographs")
    result = {"micrographs": summary.picked, "workers": WORKERS, "processor_s_per_micrograph": each_s}
    save(__file__, circumstances(sys.argv) | result)


if __name__ == "__main__":
    main()
