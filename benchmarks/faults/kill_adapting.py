"""Kill watchers whose network adapts itself, at random moments.

Is nothing lost, and no STAR file of two models?

Each run is `pick --watch --adapt` but for the network and for what is learned, in a process that
ends by SIGKILL. After each kill every file under its final name must be whole. Let to the end, a
run must leave each micrograph picked by the adapted model, listed once. Exits with code 1 when any
of this is broken.
"""

import dataclasses
import hashlib
import os
import random
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.faults.crashing import forked, status_of
from benchmarks.shared.tiny_runs import (
    DIAMETER_A,
    fake_picker,
    flaws_of,
    listed_in,
    models_of,
    report,
    write_micrograph,
)
from gtpick_rt.arrivals import lookahead
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.detection.picker import Picker
from gtpick_rt.output.layout import adapted_folder, list_path, star_path
from gtpick_rt.picking import adapting, fulfilling
from gtpick_rt.picking.request import Listeners, Request, Watching

MICROGRAPHS = 16
LONGEST_S = 1.0
END_AFTER = 8
"""Kills after which a run is let to the end, and the next folder begins."""
LEARNER = """
    import pathlib, random, sys, time
    time.sleep(random.uniform(0, 0.3))
    model = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    model.with_suffix(".json").write_text("[]")
    model.write_bytes(b"learned")
    print("learned")
"""


@dataclass
class Tally:
    """What has happened."""

    kills: int = 0
    of_both_models: int = 0
    """Kills that left some micrographs picked by either model."""
    folders: int = 0
    flaws: list[str] = field(default_factory=list)


def open_picker(diameter_A: float | None = None, *, model: str | None = None, **_: Any) -> Picker:
    """Finds the same whatever the model; which one it is shows in the settings."""
    general = fake_picker()
    name = "adapted" if model else "general"
    spec = dataclasses.replace(general.spec, name=name)
    sha256 = hashlib.sha256(Path(model).read_bytes()).hexdigest() if model else "general"
    return Picker(general.backend, spec, DIAMETER_A, model_sha256=sha256)


def watch(folder: Path, ended: Callable[[], bool]) -> None:
    """One run, until it is killed or `ended`."""
    fulfilling.open_picker = open_picker
    lookahead.PATIENCE_S = 0.05
    program = folder.parent / "learner.py"
    program.write_text(textwrap.dedent(LEARNER))
    adapting.PROGRAM = (sys.executable, "-I", "-S", str(program))
    stop = threading.Event()

    def look() -> None:
        while not ended():
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=look, daemon=True).start()
    watching = Watching(timing=Timing(settle_s=0.01, poll_s=0.02))
    request = Request(
        inputs=(str(folder),), out=folder.parent / "out", diameter_A=DIAMETER_A, adapt=True, watching=watching
    )
    fulfilling.fulfil(request, Listeners(notice=lambda line: None), stop)


def flaws_of_end(out: Path, stems: set[str]) -> list[str]:
    """What is wrong with the folder of a run that was let to its end."""
    models = models_of(out)
    flaws = [f"{stem}: lost" for stem in sorted(stems - models.keys())]
    flaws += [f"{stem}: picked by the {model} model" for stem, model in models.items() if model != "adapted"]
    flaws += [f"{path}: left behind" for path in adapted_folder(out).iterdir() if path.is_dir()]
    listed = sorted(listed_in(list_path(out)))
    if listed != sorted(str(star_path(out, PurePosixPath(stem))) for stem in stems):
        flaws.append(f"autopick.star lists {len(listed)} micrographs, not each of {len(stems)} once")
    return flaws


def kill_until_done(work: Path, rng: random.Random, tally: Tally, kills: int) -> None:
    """Pick the micrographs of a folder, killed again and again, then let to the end."""
    folder, out = work / "in", work / "out"
    stems = {f"m{number:02}" for number in range(MICROGRAPHS)}
    for stem in stems:
        write_micrograph(folder / f"{stem}.mrc")
    for _ in range(min(END_AFTER, kills - tally.kills)):
        child = forked(partial(watch, folder, lambda: False))
        time.sleep(rng.uniform(0, LONGEST_S))
        os.kill(child, signal.SIGKILL)
        status_of(child)
        tally.kills += 1
        tally.flaws += flaws_of(out)
        tally.of_both_models += len(set(models_of(out).values())) == 2
    whole = partial(_is_done, out, stems)
    if os.waitstatus_to_exitcode(status_of(forked(partial(watch, folder, whole)))) != 0:
        tally.flaws.append("a run that was let to the end did not end well")
    tally.flaws += flaws_of(out) + flaws_of_end(out, stems)
    tally.folders += 1
    shutil.rmtree(work)


def _is_done(out: Path, stems: set[str]) -> bool:
    models = models_of(out)
    return models.keys() == stems and set(models.values()) == {"adapted"}


def run_all(folder: Path, kills: int, seed: int) -> Tally:
    """All of it, in an empty folder."""
    tally, rng = Tally(), random.Random(seed)
    while tally.kills < kills and not tally.flaws:
        kill_until_done(folder / str(tally.folders), rng, tally, kills)
    return tally


def main() -> None:
    """Kill, print and write the result."""
    report(__file__, __doc__, "--kills", run_all)


if __name__ == "__main__":
    main()
