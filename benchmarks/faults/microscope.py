"""`gtpick-rt pick --watch` beside a writer that behaves like a microscope.

Is all picked, once, and how soon?

Files arrive at irregular times, in five ways of writing; one writer stalls, one file is deleted
while it is written, one is no image, one is never finished, one is replaced later by another image.
The picking process is ended by SIGTERM once and by SIGKILL once, and started again. Latency is the
time from the last byte of a file to the time of its STAR file, both by the clock of the same
machine; files that were written while no process watched have none. Writes results/microscope.json.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shared.common import DATA, circumstances, convert, pick_command, save

INTERVAL_S = 6.0
"""Mean time between arrivals: 600 an hour."""
SETTLE_S = 2.0
MAX_WAIT_S = 60.0
AWAY_S = 5.0
"""How long no process watches after one was ended."""
CHUNK = 1 << 20


def rename(path: Path, data: bytes) -> None:
    """As rsync does: under a hidden name first."""
    hidden = path.with_name(f".{path.name}.Xa7")
    hidden.write_bytes(data)
    hidden.rename(path)


def append(path: Path, data: bytes, pause_s: float = 0.0) -> None:
    """As cp does, with a stall half-way."""
    with path.open("wb") as file:
        for start in range(0, len(data), CHUNK):
            file.write(data[start : start + CHUNK])
            file.flush()
            time.sleep(0.01)
            if start // CHUNK == len(data) // CHUNK // 2:
                time.sleep(pause_s)


def stall(path: Path, data: bytes) -> None:
    """For longer than the settling time."""
    append(path, data, 2 * SETTLE_S)


def preallocate(path: Path, data: bytes, pause_s: float = 2 * SETTLE_S) -> None:
    """The full size first, then the bytes, with a stall."""
    with path.open("wb") as file:
        file.truncate(len(data))
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(pause_s)
        file.write(data[len(data) // 2 :])


def header_last(path: Path, data: bytes) -> None:
    """As a writer does that learns the statistics only at the end."""
    with path.open("wb") as file:
        file.write(bytes(1024) + data[1024:])
        file.flush()
        time.sleep(1.0)
        file.seek(0)
        file.write(data[:1024])


WRITERS: tuple[Callable[[Path, bytes], None], ...] = (rename, append, stall, preallocate, header_last)


@dataclass
class Microscope:
    """Writes micrographs into a folder until it is told to stop."""

    folder: Path
    images: list[bytes]
    seconds: float
    seed: int = 0
    completed: dict[str, float] = field(default_factory=dict)
    """Time of the last byte of each whole file, by its stem."""
    written_by: dict[str, str] = field(default_factory=dict)
    contents: Counter[str] = field(default_factory=Counter)
    """How many different whole images each file has held."""

    def run(self) -> None:
        """Bring files until the time is over; the odd ones at set times."""
        rng = random.Random(self.seed)
        self.folder.mkdir()
        started, number = time.monotonic(), 0
        odd = [(0.2, self._delete), (0.3, self._junk), (0.4, self._never_finish), (0.6, self._replace)]
        writing: list[threading.Thread] = []
        while (elapsed := time.monotonic() - started) < self.seconds:
            while odd and elapsed > odd[0][0] * self.seconds:
                odd.pop(0)[1]()
            path = self.folder / f"mic_{number:05}.mrc"
            task = threading.Thread(target=self._bring, args=(rng.choice(WRITERS), path, rng.choice(self.images)))
            task.start()
            writing.append(task)
            number += 1
            time.sleep(rng.lognormvariate(0, 0.8) * INTERVAL_S / 1.38)  # 1.38: the mean of that distribution
        for task in writing:
            task.join()

    def _bring(self, write: Callable[[Path, bytes], None], path: Path, data: bytes) -> None:
        write(path, data)
        self.completed[path.stem] = time.time()
        self.written_by[path.stem] = write.__name__
        self.contents[path.stem] += 1

    def _delete(self) -> None:
        path = self.folder / "deleted.mrc"
        path.write_bytes(self.images[0][: len(self.images[0]) // 3])
        time.sleep(1)
        path.unlink()

    def _junk(self) -> None:
        (self.folder / "junk.mrc").write_bytes(b"this is no image" * 100_000)

    def _never_finish(self) -> None:
        (self.folder / "unfinished.mrc").write_bytes(self.images[0][:-1000])

    def _replace(self) -> None:
        self._bring(rename, self.folder / "mic_00000.mrc", self.images[-1])


@dataclass
class Watching:
    """The process under test, which is ended twice, and what it needs."""

    command: list[str]
    log: Path
    up: list[tuple[float, float]] = field(default_factory=list)
    """From when to when a process was there."""
    resident_MB: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    def run_for(self, seconds: float, end: signal.Signals) -> None:
        """Watch for so long, then send the signal."""
        started = time.time()
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while time.time() < started + seconds:
            time.sleep(5)
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            self.resident_MB.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            self.descriptors.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
        process.send_signal(end)
        self.exits.append(process.wait())
        self.up.append((started, time.time()))
        time.sleep(AWAY_S)


def judge(scope: Microscope, watching: Watching, out: Path) -> dict[str, Any]:
    """Compare what arrived with what was picked."""
    summary = json.loads((out / "summary.json").read_text())
    records = {record["stem"]: record for record in summary["micrographs"]}
    lines = [json.loads(line) for line in (out / ".gtpick" / "log.jsonl").read_text().splitlines()]
    executions = Counter(line["stem"] for line in lines if line["state"] == "picked")
    latencies = {
        stem: (out / f"{stem}_autopick.star").stat().st_mtime - at
        for stem, at in scope.completed.items()
        if stem in records and any(begin <= at <= end - 10 for begin, end in watching.up)
    }
    ranked = sorted(latencies.values())
    return {
        "arrived": len(scope.completed),
        "by_writer": dict(Counter(scope.written_by.values())),
        "picked": len(records),
        "lost": sorted(set(scope.completed) - set(records)),
        "not_whole_but_picked": sorted(set(records) - set(scope.completed)),
        "picked_more_often_than_their_contents": {
            stem: count for stem, count in executions.items() if count > scope.contents[stem]
        },
        "failed": {failure["stem"]: failure["kind"] for failure in summary["failed"]},
        "exit_codes": watching.exits,
        "settle_s": SETTLE_S,
        "latency_s": {
            "micrographs": len(ranked),
            "median": round(statistics.median(ranked), 2),
            "p95": round(ranked[int(0.95 * len(ranked))], 2),
            "largest": round(ranked[-1], 2),
        },
        "resident_MB": {"first": round(watching.resident_MB[1]), "largest": round(max(watching.resident_MB))},
        "descriptors": {"least": min(watching.descriptors[1:]), "most": max(watching.descriptors)},
    }


def main() -> None:
    """Let the microscope run beside the command, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images/*.jpg (README.md)")
    parser.add_argument("--minutes", type=float, default=32.0)
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        images = [path.read_bytes() for path in convert(arguments.data, work / "images")]
        seconds = 60 * arguments.minutes
        scope = Microscope(work / "micrographs", images, seconds - MAX_WAIT_S - 30)
        options = ["--watch", f"--settle={SETTLE_S:g}", f"--max-wait={MAX_WAIT_S:g}"]
        command = pick_command([scope.folder], work / "picks", arguments.model) + options
        watching = Watching(command, work / "log")
        writer = threading.Thread(target=scope.run)
        writer.start()
        for share, end in ((0.3, signal.SIGTERM), (0.3, signal.SIGKILL), (0.4, signal.SIGTERM)):
            watching.run_for(share * seconds, end)
        writer.join()
        result = judge(scope, watching, work / "picks")
    print(json.dumps(result, indent=1))
    shown = pick_command([Path("MICROGRAPHS")], Path("OUT"), arguments.model and Path(arguments.model).name) + options
    save(__file__, circumstances(shown) | {"minutes": arguments.minutes} | result)


if __name__ == "__main__":
    main()
