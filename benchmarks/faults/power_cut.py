"""Cut the power while `pick` runs, on a model of a disk with a cache.

What was committed must be there, whole.

The model is stricter than any one file system. A file's bytes and a folder's names are on the disk
only once they are synced; of what is not, each name may have reached it or not, in any order, and
each file's bytes wholly, in part, as zeros or not at all. From each state that is drawn so, a
second run must go on and end as if nothing had happened. The network is absent; every other run
writes in several threads, as beside a GPU. Exits with code 1 when anything is lost, short or not
gone on with.
"""

import os
import random
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.shared.common import working_in
from benchmarks.shared.tiny_runs import (
    CORES,
    fake_picker,
    flaws_at_end,
    flaws_of,
    report,
    stems_done,
    write_micrograph,
)
from gtpick_rt.arrivals import listed
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.output import folder as output_module
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline import queues
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.records import Failure, Record

MICROGRAPHS = 6
CUTS_OF_A_RUN = 25
OUT = Path("out")


@dataclass
class Tally:
    """What has happened."""

    cuts: int = 0
    runs: int = 0
    committed: int = 0
    """Micrographs that had been committed before a cut, over all cuts."""
    flaws: list[str] = field(default_factory=list)


class Disk:
    """What of the files below `root` has reached the disk.

    A file keeps its number here when it is renamed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._data: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._numbers: dict[int, int] = {}  # by inode, which are used again
        self._next = count()
        self.sync(root)

    def created(self, path: Path) -> None:
        """A file has come into being."""
        self._numbers[path.stat().st_ino] = next(self._next)

    def sync(self, path: Path) -> None:
        """Bring a file's bytes, or a folder's names, to the disk."""
        if path.is_dir():
            self._names[self._number(path)] = self._listing(path)
        else:
            self._data[self._number(path)] = path.read_bytes()

    def _number(self, path: Path) -> int:
        return self._numbers.setdefault(path.stat().st_ino, next(self._next))

    def _listing(self, folder: Path) -> dict[str, int]:
        return {path.name: self._number(path) for path in folder.iterdir()}

    def leave(self, target: Path, rng: random.Random) -> None:
        """Write to `target` what a power cut at this moment may leave."""
        there = {self._number(path): path for path in (self.root, *self.root.rglob("*"))}
        self._leave_folder(self._number(self.root), target, there, rng)

    def _leave_folder(self, number: int, target: Path, there: dict[int, Path], rng: random.Random) -> None:
        target.mkdir()
        synced, now = self._names.get(number, {}), self._listing(there[number])
        for name in synced.keys() | now.keys():
            child = rng.choice((synced.get(name), now.get(name)))
            if child is None:
                continue
            if child in there and there[child].is_dir():
                self._leave_folder(child, target / name, there, rng)
            else:
                (target / name).write_bytes(self._bytes(child, there.get(child), rng))

    def _bytes(self, number: int, path: Path | None, rng: random.Random) -> bytes:
        synced, now = self._data.get(number, b""), path.read_bytes() if path else b""
        if not now or now == synced:
            return synced
        part = now[: rng.randrange(len(now))]
        return rng.choice((synced, now, part, part.ljust(len(now), b"\0")))


def observe(disk: Disk, at_moment: Callable[[], None]) -> Callable[[], None]:
    """Let `disk` follow what this process does, and call back before and after each step.

    Returns how to end it.
    """
    really = os.open, os.fsync, Path.replace, Path.unlink, os.mkdir

    lock = threading.RLock()

    def opening(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        with lock:
            descriptor = really[0](path, flags, *arguments, **options)
            if flags & os.O_EXCL:
                disk.created(Path(path))
                at_moment()
            return descriptor

    def fsync(descriptor: int) -> None:
        with lock:
            at_moment()
            assert stat.S_IFMT(os.fstat(descriptor).st_mode) in (stat.S_IFREG, stat.S_IFDIR)
            disk.sync(Path(f"/proc/self/fd/{descriptor}").resolve())
            at_moment()

    def replace(path: Path, target: Path) -> Path:
        with lock:
            replaced = really[2](path, target)
            at_moment()
            return replaced

    def unlink(path: Path, missing_ok: bool = False) -> None:
        with lock:
            really[3](path, missing_ok)
            at_moment()

    def mkdir(*arguments: Any, **options: Any) -> None:
        with lock:  # a folder that comes while the state of a cut is written would be taken for a file
            really[4](*arguments, **options)

    def end() -> None:
        os.open, os.fsync, Path.replace, Path.unlink, os.mkdir = really  # type: ignore[method-assign]

    os.open, os.fsync, os.mkdir = opening, fsync, mkdir  # type: ignore[assignment]
    Path.replace, Path.unlink = replace, unlink  # type: ignore[assignment, method-assign]
    return end


def pick(folder: Path, on_done: Callable[[Record], None] = lambda record: None, on_cpu: bool = True) -> None:
    """Pick what has not been picked of `folder`, into the folder `OUT` below the current one."""
    picker = fake_picker(on_cpu)
    with OutputFolder(OUT) as output:
        source = Listed(compare(find_jobs([str(folder)]).jobs, output.finished).todo)
        pipeline.run(source, picker, output, settings_of(picker), listeners=Listeners(done=on_done))


def cut_a_run(folder: Path, micrographs: Path, rng: random.Random, tally: Tally) -> list[tuple[Path, set[str]]]:
    """Run once; returns what cuts at some moments would leave, and what was committed by then."""
    (folder / "disk").mkdir(parents=True)
    disk = Disk(folder / "disk")
    committed: set[str] = set()
    states: list[tuple[Path, set[str]]] = []

    def at_moment() -> None:
        if rng.random() < 0.25 and len(states) < CUTS_OF_A_RUN:
            state = folder / f"cut{len(states)}"
            disk.leave(state, rng)
            states.append((state, set(committed)))

    def on_done(record: Record) -> None:
        assert not isinstance(record, Failure)
        committed.add(record.stem)

    with working_in(disk.root):
        end = observe(disk, at_moment)
        try:
            pick(micrographs, on_done, on_cpu=tally.runs % 2 == 0)
        finally:
            end()
    tally.runs += 1
    return states


def judge(state: Path, committed: set[str], micrographs: Path, tally: Tally) -> None:
    """Look at what a cut has left, and go on from there."""
    tally.cuts += 1
    tally.committed += len(committed)
    really, os.fsync = os.fsync, lambda descriptor: None
    with working_in(state):
        tally.flaws += [f"{stem}: was committed, and is lost" for stem in committed - stems_done(OUT)]
        tally.flaws += flaws_of(OUT)
        pick(micrographs)
        tally.flaws += flaws_at_end(OUT, {path.stem for path in micrographs.iterdir()})
    os.fsync = really


def run_all(folder: Path, cuts: int, seed: int) -> Tally:
    """All of it, in an empty folder."""
    output_module._LISTS_EVERY_S, output_module._SHARE_OF_TIME = 0.0, 1.0
    queues._TICK_S = listed.TICK_S = 0.005
    pipeline.usable_cores = lambda: CORES
    rng, tally = random.Random(seed), Tally()
    micrographs = folder / "in"
    for number in range(MICROGRAPHS):
        write_micrograph(micrographs / f"m{number}.mrc")
    while tally.cuts < cuts and not tally.flaws:
        for state, committed in cut_a_run(folder / f"{tally.runs}", micrographs, rng, tally):
            if tally.cuts < cuts:
                judge(state, committed, micrographs, tally)
    return tally


def main() -> None:
    """Cut, print and write the result."""
    report(__file__, __doc__, "--cuts", run_all)


if __name__ == "__main__":
    main()
