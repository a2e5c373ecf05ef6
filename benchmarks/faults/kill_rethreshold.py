"""Kill `rethreshold` and `convert` at random moments, and at every call to the operating system.

Does the folder mend?

A finished run, in every format, is thresholded and converted anew in processes that end by SIGKILL,
SIGTERM or Ctrl-C. After each, every file under its final name must be whole and no micrograph lost.
Then the same command, another one, or a run of `pick` must leave a folder in which all agrees: STAR
files, lists, other formats and index. The network is absent. Exits with code 1 when any of this is
broken.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.faults.crashing import KillAtCall, forked, status_of
from benchmarks.shared.tiny_runs import fake_picker, flaws_at_end, report, write_micrograph
from gtpick_rt.arrivals import listed
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.output import converting, journal
from gtpick_rt.output.conversion import LISTS, SINGLE, Conversion
from gtpick_rt.output.converting import convert
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import STATE_FOLDER, detections_path, log_path
from gtpick_rt.output.rethresholding import rethreshold
from gtpick_rt.pipeline import queues
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.threads import settings_of

MICROGRAPHS = 12
LONGEST_S = 0.15
ALL_CALLS = 1000
"""Kills from which a crash is tried at every call; with fewer, at a part of them."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Wanted:
    """What a folder is brought to."""

    threshold: float
    box_px: int


BEFORE, AFTER = Wanted(0.4, 24), Wanted(0.8, 64)
STATES = tuple(Wanted(*each) for each in product((0.4, 0.8), (24, 64)))
"""The thresholds make two picks of a micrograph, and one."""


@dataclass
class Tally:
    """What has happened."""

    kills: int = 0
    mended: int = 0
    """Times that one call made all agree again, after one kill or several."""
    crash_points: int = 0
    flaws: list[str] = field(default_factory=list)


class Folder:
    """A finished run in every format, `out`, and what it holds when nothing interferes."""

    def __init__(self, folder: Path, micrographs: int) -> None:
        self.out = folder / "out"
        self.stems = {f"m {number:02}" for number in range(micrographs)}
        for stem in self.stems:
            write_micrograph(folder / "in" / f"{stem}.mrc")
        pick(self.out)
        self._first = folder / "first"
        self._undisturbed = {wanted: self._brought(wanted) for wanted in STATES}
        bring(self.out, BEFORE)
        shutil.copytree(self.out, self._first)

    def reset(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.out)
        shutil.copytree(self._first, self.out)

    def _brought(self, wanted: Wanted) -> dict[str, Any]:
        bring(self.out, wanted)
        return contents(self.out)

    def flaws_after_kill(self) -> list[str]:
        """Files that are missing, or are neither as before nor as after anything ever wanted."""
        now = contents(self.out)
        flaws = [f"{name}: lost" for name in self._undisturbed[BEFORE].keys() - now.keys()]
        sound = {name: [held[name] for held in self._undisturbed.values() if name in held] for name in now}
        return flaws + [f"{name}: not whole" for name, found in now.items() if found not in sound[name]]

    def flaws_when_mended(self, *wanted: Wanted) -> list[str]:
        """What is not as it would be if nothing had ever interfered, with one of these wanted."""
        now, flaws = contents(self.out), flaws_at_end(self.out, self.stems)
        if not any(self._undisturbed[each] == now for each in wanted):
            expected = self._undisturbed[wanted[0]]
            flaws += [f"{name}: not as it should be" for name in expected if now.get(name) != expected[name]]
        return flaws


def contents(out: Path) -> dict[str, Any]:
    """What the files of an output folder say, by their names.

    Left out are the order in lists, pictures and times.
    """
    apart = [out / "overlays", out / STATE_FOLDER]
    paths = [path for path in out.rglob("*") if path.is_file() and not any(path.is_relative_to(each) for each in apart)]
    paths += detections_path(out, Path()).parent.rglob("*.npz")
    return {str(path.relative_to(out)): _content(path) for path in paths if not path.name.startswith(".")}


def _content(path: Path) -> Any:
    if path.suffix == ".cs":
        return sorted(map(str, np.load(path)))
    if path.name == "summary.json":
        found = json.loads(path.read_bytes())
        return found["totals"], found["parameters"]["threshold"]
    data = re.sub(rb'"seconds": [^,]*,', b"", path.read_bytes())
    return sorted(data.splitlines()) if path.name in ("autopick.star", "picks_topaz.txt") else data


def pick(out: Path) -> None:
    """Pick what is not picked into `out`, at the threshold of the picks that are there."""
    picker = fake_picker()
    with OutputFolder(out) as output:
        threshold = output.previous.threshold if output.previous else None
        source = Listed(compare(find_jobs([str(out.parent / "in")]).jobs, output.finished).todo)
        settings = settings_of(picker, threshold)
        pipeline.run(source, picker, output, settings, overlays=True, formats=(*SINGLE, *LISTS))


def bring(out: Path, wanted: Wanted) -> None:
    """What `rethreshold` and `convert --box-size` do."""
    with OutputFolder(out) as output:
        rethreshold(output, wanted.threshold)
        output.convert_to(output.conversion.updated(Conversion(formats=("box", "cbox"), box_px=wanted.box_px)))
        convert(output)


def crash_everywhere(folder: Path, tally: Tally, every: int) -> None:
    """Crash at every call, or every so many, until there is none left."""
    finished = Folder(folder, micrographs=2)
    for moment in count(1, every):
        finished.reset()
        child = forked(partial(_bring_until, finished.out, moment))
        killed = os.WIFSIGNALED(status_of(child))
        flaws = finished.flaws_after_kill() + mend(finished, tally.crash_points)
        tally.flaws += [f"moment {moment}: {flaw}" for flaw in flaws]
        if not killed or tally.flaws:
            break
        tally.crash_points += 1


def _bring_until(out: Path, moment: int) -> None:
    converting.THREADS = 1
    kill_at_call = KillAtCall(moment)
    threading.setprofile(kill_at_call)
    sys.setprofile(kill_at_call)
    bring(out, AFTER)


def mend(finished: Folder, which: int) -> list[str]:
    """Do one of the things that a user may do next; returns what is wrong after that."""
    match which % 4:
        case 0:
            bring(finished.out, AFTER)
            return finished.flaws_when_mended(AFTER)
        case 1:
            bring(finished.out, BEFORE)
            return finished.flaws_when_mended(BEFORE)
        case 2:
            with OutputFolder(finished.out) as output:
                rethreshold(output, BEFORE.threshold)
        case _:
            log_path(finished.out).unlink(
                missing_ok=True
            )  # micrographs that are of the other threshold are picked again
            pick(finished.out)
    return finished.flaws_when_mended(*STATES)


def kill_at_random(folder: Path, rng: random.Random, tally: Tally, kills: int) -> None:
    """Bring a folder to this and that, and end most of the processes before they have."""
    finished = Folder(folder, MICROGRAPHS)
    while tally.kills < kills and not tally.flaws:
        wanted = rng.choice(STATES)
        child = forked(partial(bring, finished.out, wanted))
        time.sleep(rng.uniform(0, LONGEST_S))
        os.kill(child, rng.choice(SIGNALS))
        status = status_of(child)
        tally.kills += status != 0
        tally.flaws += ["came to a standstill"] * (os.WTERMSIG(status) == signal.SIGABRT)
        tally.flaws += finished.flaws_after_kill()
        if rng.random() < 0.3:
            tally.flaws += mend(finished, rng.randrange(4))
            tally.mended += 1


class Unsynced(sqlite3.Connection):
    """An index that is never synced."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Execute all but that."""
        return super().execute(sql.replace("= FULL", "= OFF"), *arguments)


def hurry() -> None:
    """Do not wait for the disk, which outlasts processes, nor long for threads."""
    os.fsync = lambda descriptor: None
    journal.sqlite3 = SimpleNamespace(**vars(sqlite3) | {"connect": partial(sqlite3.connect, factory=Unsynced)})
    queues._TICK_S = listed.TICK_S = 0.005


def run_all(folder: Path, kills: int, seed: int) -> Tally:
    """All of it, in an empty folder."""
    tally = Tally()
    hurry()
    crash_everywhere(folder / "crash", tally, every=max(1, ALL_CALLS // kills))
    kill_at_random(folder / "random", random.Random(seed), tally, kills)
    return tally


def main() -> None:
    """Kill, print and write the result."""
    report(__file__, __doc__, "--kills", run_all)


if __name__ == "__main__":
    main()
