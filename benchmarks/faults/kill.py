"""Kill runs of `pick` at random moments, and one commit after every call to the operating system.

Nothing may be lost.

The runs are real but for the network, in processes that end by SIGKILL while others go on with the
same folder; every other two folders are written by several threads, as beside a GPU. After each
kill every file under its final name must be whole and nothing that was done may be undone or done
again; at the end each micrograph is picked once. Exits with code 1 when any of this is broken.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.faults.crashing import KillAtCall, forked, status_of
from benchmarks.shared.tiny_runs import (
    CORES,
    fake_picker,
    flaws_at_end,
    flaws_of,
    job_of,
    report,
    stems_done,
    write_micrograph,
)
from gtpick_rt.arrivals import opening
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.arrivals.source import Source, Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.output import folder as output_module
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import Summary
from gtpick_rt.pipeline import stages
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import Micrograph

MICROGRAPHS = 24
"""Picked into one folder; then the next folder begins."""
MOST_READ = 12
LONGEST_S = 0.03
"""A run is killed when it has read some micrographs, fewer than the one, and a random time up to
the other after."""
IN_FLIGHT = 9
"""Micrographs that can be read but not committed: one is read, two wait, three are in the
network, two wait, one is written. Beside a GPU there are more of each: all."""
JUNK = "junk"
"""Name of a file that cannot be read; each run tries it again."""


@dataclass
class Tally:
    """What has happened."""

    kills: int = 0
    folders: int = 0
    micrographs: int = 0
    read_again: int = 0
    """Micrographs that were in flight at a kill and had to be begun again."""
    crash_points: int = 0
    flaws: list[str] = field(default_factory=list)


def listed(folder: Path, output: OutputFolder) -> Source:
    """A batch of what has not been picked."""
    return Listed(compare(find_jobs([str(folder)]).jobs, output.finished).todo)


def watched(folder: Path, output: OutputFolder) -> Source:
    """A watcher that ends when all that is there is picked."""
    timing = Timing(settle_s=0.01, poll_s=0.02)
    return Watched([str(folder)], timing=timing, finished=output.finished, stop_after_idle_s=0.0)


def pick(
    make_source: Callable[[Path, OutputFolder], Source], folder: Path, out: Path, read_log: int, on_cpu: bool
) -> None:
    """One run, which notes in the open file `read_log` what it reads."""

    def noted(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        os.write(read_log, f"{path.stem}\n".encode())
        return read_micrograph(path, *sizes_A, **options)

    opening.read_micrograph = noted
    output_module._LISTS_EVERY_S, output_module._SHARE_OF_TIME = 0.01, 0.5
    pipeline.usable_cores = lambda: CORES
    picker = fake_picker(on_cpu)
    with OutputFolder(out) as output:
        pipeline.run(make_source(folder, output), picker, output, settings_of(picker))


def kill_until_done(
    make_source: Callable[[Path, OutputFolder], Source], folder: Path, rng: random.Random, tally: Tally, kills: int
) -> None:
    """Pick the micrographs that arrive in `folder`, killed again and again.

    After so many kills in all it is let to the end.
    """
    write_micrograph(folder / "m000.mrc")
    out, read_log = folder.parent / "out", os.open(folder.parent / "reads", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    (folder / f"{JUNK}.mrc").write_bytes(b"not an image " * 100)
    reads: Counter[str] = Counter()
    on_cpu = tally.folders % 4 < 2
    arrived, ended = 1, False
    while not ended:
        for number in range(arrived, min(MICROGRAPHS, arrived + rng.randrange(12))):
            shutil.copy(folder / "m000.mrc", folder / f"m{number:03}.mrc")
            arrived = number + 1
        before, position = stems_done(out), os.fstat(read_log).st_size
        child = forked(partial(pick, make_source, folder, out, read_log, on_cpu))
        if tally.kills < kills:
            wait_for(child, read_log, before=position, reads=rng.randrange(MOST_READ))
            time.sleep(rng.uniform(0, LONGEST_S))
            os.kill(child, signal.SIGKILL)
        status = status_of(child)
        killed = os.WIFSIGNALED(status)
        tally.kills += killed
        if not killed and os.waitstatus_to_exitcode(status):
            tally.flaws.append("a run does not go on after a kill")
            break
        read = os.pread(read_log, 1 << 20, position).decode().split()
        tally.flaws += flaws_of(out) + flaws_after(before, stems_done(out), read, IN_FLIGHT if on_cpu else MICROGRAPHS)
        reads.update(read)
        ended = not killed and arrived == MICROGRAPHS
    os.close(read_log)
    tally.flaws += flaws_at_end(out, {f"m{number:03}" for number in range(MICROGRAPHS)})
    tally.micrographs += MICROGRAPHS
    tally.read_again += sum(times - 1 for stem, times in reads.items() if stem != JUNK)


def wait_for(child: int, read_log: int, before: int, reads: int) -> None:
    """Wait until so many lines have been added to the log, or the process has ended."""
    line = len(f"{JUNK}\n")  # all are of one length
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.fstat(read_log).st_size < before + reads * line and os.waitid(os.P_PID, child, ended) is None:
        time.sleep(0.001)


def flaws_after(before: set[str], after: set[str], read: list[str], in_flight: int) -> list[str]:
    """What is wrong with a run that has read these, by what was done `before` and `after` it."""
    flaws = [f"{stem}: was done, and is undone" for stem in before - after]
    flaws += [f"{stem}: was done, and was done again" for stem in before.intersection(read)]
    flaws += [f"{stem}: read {times} times in one run" for stem, times in Counter(read).items() if times > 1]
    if len(set(read) - after - {JUNK}) > in_flight:
        flaws.append(f"{len(set(read) - after)} micrographs were in flight")
    return flaws


def crash_everywhere(folder: Path, tally: Tally) -> None:
    """Crash at every call while a second micrograph is committed and listed."""
    paths = [write_micrograph(folder / "in" / f"{stem}.mrc") for stem in "ab"]
    first = folder / "first"
    _commit(first, [paths[0]], None)
    for moment in count(1):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(first, out)
        child = forked(partial(_commit, out, paths, KillAtCall(moment)))
        killed = os.WIFSIGNALED(status_of(child))
        tally.flaws += flaws_of(out)
        _commit(out, paths, None)
        tally.flaws += flaws_at_end(out, {"a", "b"})
        if not killed:
            break
        tally.crash_points += 1


def _commit(out: Path, paths: list[Path], kill_at_call: KillAtCall | None) -> None:
    """Do what the writing thread does, without threads."""
    picker = fake_picker()
    settings = settings_of(picker)
    with OutputFolder(out) as output:
        output.begin(settings)
        steps = stages.Stages(picker, output.files, overlays=True)
        items = [steps.read(job_of(path)) for path in paths if str(job_of(path).stem) not in output.finished]
        for item in items:
            steps.detect(item)
        sys.setprofile(kill_at_call)
        for item in items:
            record = steps.write(item)
            if isinstance(record, MicrographRecord):
                output.note(record)
            output.log(state="picked", stem=record.stem)
        output.write_lists(_summary(output))
        sys.setprofile(None)


def _summary(output: OutputFolder) -> Summary:
    from gtpick_rt.output.summary import ModelRecord

    model = ModelRecord(name="fake", version="1", sha256="", floor=0.05)
    return Summary(
        command=[],
        parameters={"threshold": output.files.settings.threshold},
        model=model,
        backend="scripted",
        seconds=0.0,
        stage_seconds={},
        picked=0,
        totals=output.totals,
    )


def run_all(folder: Path, kills: int, seed: int) -> Tally:
    """All of it, in an empty folder."""
    # A killed process takes nothing with it of what it has written: no disk need be waited for.
    os.fsync = os.isatty  # type: ignore[assignment]  # a call of the system that is counted, too
    rng, tally = random.Random(seed), Tally()
    crash_everywhere(folder / "crash", tally)
    while tally.kills < kills and not tally.flaws:
        make_source = (listed, watched)[tally.folders % 2]
        kill_until_done(make_source, folder / f"{tally.folders}" / "in", rng, tally, kills)
        tally.folders += 1
    return tally


def main() -> None:
    """Kill, print and write the result."""
    report(__file__, __doc__, "--kills", run_all)


if __name__ == "__main__":
    main()
