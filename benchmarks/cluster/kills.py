"""Workers are killed at random while they pick, on this machine and in a private Slurm.

Is each micrograph done once?

    python benchmarks/cluster/kills.py [--kills 100] [--scancels 20] [--no-save]

Small micrographs (one tile each) are picked by two workers with the shipped model. Here: a worker
is killed with SIGKILL again and again. Slurm: a job is ended by scancel again and again, then the
driver is killed with SIGKILL half-way through another run, and started anew. What was read is noted
by the workers, so that what is done again shows.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from distributed import WorkerPlugin

from benchmarks.cluster.slurm_cluster import reason_to_skip, slurm_cluster
from benchmarks.shared.common import PROGRAM, circumstances, save
from benchmarks.shared.tiny_runs import flaws_at_end, stems_done, write_micrograph
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.cluster import driver, slurm
from gtpick_rt.cluster.pool import WorkerPool
from gtpick_rt.cluster.session import THREADS
from gtpick_rt.cluster.specs import ClusterSpec, LocalWorkers, SlurmJobs
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import Summary
from gtpick_rt.pipeline import stages
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.proof.opening import open_picker

WORKERS = 2
DIAMETER_A = 48.0
MICROGRAPHS_SLURM = 1000
PER_KILL = 60
"""Micrographs for each kill on this machine: about what two workers pick between two of them."""
KEEP_S = 2.0
"""Here Slurm is asked more often which jobs there are than sites like it."""
JOBS = SlurmJobs(count=WORKERS, cores=1, memory="1GB", time="02:00:00")
WINDOW = WORKERS * THREADS * driver.PER_THREAD
"""Micrographs that are given out at any time."""


@dataclass
class Tally:
    """What one run of kills shows."""

    micrographs: int = 0
    kills: int = 0
    seconds: float = 0.0
    jobs: int = 0
    """Jobs of Slurm that picked, one after another."""
    done_again: int = 0
    """Micrographs read again, each time counted: in hand when their worker was killed, or done
    and not told yet."""
    most_done_again: int = 0
    """`WINDOW` times kills."""
    flaws: list[str] = field(default_factory=list)


class ReadLog(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """Notes each micrograph that a worker reads."""

    name = "read_log"

    def __init__(self, path: Path) -> None:
        self.path = path

    def setup(self, worker: Any) -> None:
        """Note from now on."""
        really = stages.read_micrograph

        def read(path: Path, *arguments: Any, **options: Any) -> Any:
            with self.path.open("a") as file:
                file.write(f"{path.stem}\n")
            return really(path, *arguments, **options)

        stages.read_micrograph = read


def make_micrographs(folder: Path, count: int) -> None:
    """So many files of one micrograph."""
    first = write_micrograph(folder / "m00000.mrc")
    for number in range(1, count):
        first.with_name(f"m{number:05}.mrc").hardlink_to(first)


def pick(pool: WorkerPool, folder: Path, listeners: Listeners) -> Summary:
    """Pick what is not picked yet."""
    picker = open_picker(DIAMETER_A, backend="cpu")
    with OutputFolder(folder / "out") as output:
        jobs = compare(find_jobs([str(folder / "in")]).jobs, output.finished).todo
        settings = settings_of(picker)
        return driver.run(pool, Listed(jobs), picker, output, settings, model=None, backend="cpu", listeners=listeners)


def run_with_kills(
    spec: ClusterSpec, folder: Path, count: int, kills: int, kill: Callable[[], bool], every_s: float
) -> Tally:
    """Pick, and `kill` until so many kills have succeeded."""
    make_micrographs(folder / "in", count)
    tally, over = Tally(micrographs=count, most_done_again=WINDOW * kills), threading.Event()
    began = time.monotonic()

    def killing() -> None:
        while not over.wait(random.uniform(0.5, 1.5) * every_s) and tally.kills < kills:
            tally.kills += kill()

    with workers_at(spec, folder / "jobs") as pool:
        pool.register(ReadLog(folder / "read_log"))
        thread = threading.Thread(target=killing)
        thread.start()
        summary = pick(pool, folder, Listeners())
        over.set()
        thread.join()
    tally.seconds = round(time.monotonic() - began, 1)
    read = Counter((folder / "read_log").read_text().split())
    tally.done_again = sum(read.values()) - len(read)
    tally.jobs = len(summary.workers)
    stems = {f"m{number:05}" for number in range(count)}
    tally.flaws += flaws_at_end(folder / "out", stems, repeated=True)
    if tally.kills < kills:
        tally.flaws.append(f"only {tally.kills} kills: the run was over before")
    if summary.totals.failed:
        tally.flaws.append(f"{summary.totals.failed} micrographs failed")
    if tally.done_again > tally.most_done_again:
        tally.flaws.append(f"{tally.done_again} micrographs were done again")
    return tally


def kill_a_worker() -> bool:
    """Kill one of the processes that this one has spawned, if both are there."""
    spawned = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
    if len(spawned) < WORKERS:
        return False
    random.choice(spawned).kill()
    return True


def cancel_a_job() -> bool:
    """End a job that runs, if all do."""
    command = ["squeue", "--noheader", "--format=%A", "--states=R"]
    running = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if len(running) < WORKERS:
        return False
    subprocess.run(["scancel", random.choice(running)], check=True)
    return True


def kill_the_driver(folder: Path, count: int) -> Tally:
    """Kill `gtpick-rt pick --cluster slurm` half-way, and run it again: is anything done twice?"""
    make_micrographs(folder / "in", count)
    tally, out, began = Tally(micrographs=count, kills=1), folder / "out", time.monotonic()
    command = [PROGRAM, "pick", str(folder / "in"), "--out", str(out)]
    command += ["--diameter", f"{DIAMETER_A:g}", "--backend", "cpu", "--cluster", "slurm", "--jobs", f"{WORKERS}"]
    command += ["--job-cores", "1", "--job-memory", "1GB"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(stems_done(out)) < count // 2:
        if process.poll() is not None:
            sys.exit("the driver has ended by itself")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(5)  # in which its workers notice, and commit what they had in hand
    before = {path: path.stat().st_ino for path in out.glob("*_autopick.star")}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tally.done_again = sum(path.stat().st_ino != inode for path, inode in before.items())
    tally.flaws += flaws_at_end(out, {f"m{number:05}" for number in range(count)})
    if tally.done_again:
        tally.flaws.append(f"{tally.done_again} of {len(before)} were done twice")
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def in_slurm(folder: Path, scancels: int) -> dict[str, Tally]:
    """Both runs in a Slurm of their own."""
    with slurm_cluster(folder / "slurm", cpus=1) as private:
        os.environ["SLURM_CONF"] = private.environment["SLURM_CONF"]
        slurm.KEEP_S = KEEP_S
        lost = run_with_kills(JOBS, folder / "lost", MICROGRAPHS_SLURM, scancels, cancel_a_job, 3.0)
        return {"slurm_jobs_cancelled": lost, "slurm_driver_killed": kill_the_driver(folder / "killed", 400)}


def main() -> None:
    """Kill, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--scancels", type=int, default=20)
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    if reason := reason_to_skip():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        local = LocalWorkers(WORKERS)
        tallies = in_slurm(folder, options.scancels)
        count = PER_KILL * options.kills
        tallies["workers_killed"] = run_with_kills(local, folder / "here", count, options.kills, kill_a_worker, 1.5)
    result = {name: asdict(tally) for name, tally in tallies.items()}
    for name, figures in result.items():
        print(name, figures)
    if not options.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | {"window": WINDOW, **result})
    if any(tally.flaws for tally in tallies.values()):
        sys.exit("promises were broken")


if __name__ == "__main__":
    main()
