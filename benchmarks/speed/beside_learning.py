"""The rate of `gtpick-rt pick` while a network adapts itself beside it, as a share of that alone.

The learner is the process that `pick --watch --adapt` starts, on simulated micrographs; once it is
at its steps the same micrographs are picked beside it, and when it is ended once more alone. Rates
are of the run itself, without the start of the program. The aim is a share of at least 0.5.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from benchmarks.shared.common import PROGRAM, circumstances, pick_command, save
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.picking.adapting import MICROGRAPHS, Adaptation

DIAMETER_A = 214.0
REPEATS = 3
AIM = 0.5


def simulate(folder: Path, side_px: int) -> None:
    """Make the micrographs that teach, in a field of particles that the network knows well."""
    command = [PROGRAM, "simulate", str(folder), f"--count={MICROGRAPHS}", f"--size={side_px}", "--particle=60"]
    subprocess.run([*command, "--snr=0.06", "--seed=6"], check=True, stdout=subprocess.DEVNULL)


def repeat(simulated: Path, folder: Path, count: int) -> None:
    """Fill a folder with so many micrographs, which are the simulated ones again and again."""
    folder.mkdir()
    made = sorted(simulated.glob("*.mrc"))
    for number in range(count):
        os.link(made[number % len(made)], folder / f"m{number:04}.mrc")


def rate(folder: Path, out: Path) -> float:
    """Micrographs a second of a run."""
    shutil.rmtree(out, ignore_errors=True)
    command = pick_command([folder], out, None, DIAMETER_A)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    summary = json.loads((out / "summary.json").read_text())
    return float(summary["picked"] / summary["seconds"])


def rates_beside(simulated: Path, folder: Path, work: Path) -> list[float]:
    """The rates of some runs while a network learns from the simulated micrographs."""
    begun = threading.Event()
    jobs = find_jobs([str(simulated)]).jobs
    learning = Adaptation(work / "adapting", jobs, DIAMETER_A, 60.0, lambda *_: begun.set(), beside=True)
    with closing(learning):
        while not begun.wait(0.5):
            if learning.outcome is not None:
                sys.exit(f"nothing is learned: {learning.outcome.message}")
        rates = [rate(folder, work / "picks") for _ in range(REPEATS)]
        if learning.outcome is not None:
            sys.exit("the learner was through before the runs were; give fewer --micrographs")
    return rates


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=int, default=60, help="of each run")
    parser.add_argument("--side", type=int, default=2048, help="of the micrographs, in pixels")
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        simulate(work / "simulated", arguments.side)
        repeat(work / "simulated", work / "micrographs", arguments.micrographs)
        beside = rates_beside(work / "simulated", work / "micrographs", work)
        alone = [rate(work / "micrographs", work / "picks") for _ in range(REPEATS)]
    share = statistics.median(beside) / statistics.median(alone)
    result = {
        "micrographs": arguments.micrographs,
        "side_px": arguments.side,
        "per_second_beside": [round(each, 3) for each in beside],
        "per_second_alone": [round(each, 3) for each in alone],
        "share": round(share, 3),
    }
    print(json.dumps(result, indent=1))
    if not arguments.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | result)
    if share < AIM:
        sys.exit(f"picking is slowed to {share:.2f} of its rate, and {AIM:g} is the aim")


if __name__ == "__main__":
    main()
