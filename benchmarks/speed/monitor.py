"""What `gtpick-rt monitor` costs.

Fifty viewers look at a run that has picked 50,000 micrographs and goes on picking.

First the monitor is started on the folder: seconds until the page is there and all micrographs are
known. Then 50 viewers open the page at once and stay, and do what the page's script does: they
listen to events, get the picture of each new micrograph, the picks of the newest once a second, and
the charts every 5 s. Last, more micrographs are picked into the same folder by the public command,
by turns without the monitor and with it and its viewers; the time per micrograph is that between
the first and the last STAR file. The viewers run on the same machine, at the lowest priority.
Writes results/monitor.json.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.shared.common import PROGRAM, ROOT, circumstances, pick_command, save
from benchmarks.speed.monitor_viewers import Connection
from benchmarks.speed.restart import DIAMETER_A, LINKS, SAMPLE, prepare
from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.formats.star import read_record
from gtpick_rt.output.layout import log_path, preview_path, star_path
from gtpick_rt.records import MicrographRecord

SIDE_PX = 4096
"""Of the micrographs that are picked while it is measured."""
TICK = os.sysconf("SC_CLK_TCK")


def tell(out: Path) -> int:
    """Give a folder of `prepare` the log and the previews that its run would have left."""
    stars = sorted(out.glob("*_autopick.star"), key=lambda path: path.stat().st_mtime_ns)
    source = preview_path(out, PurePosixPath("m"))
    with log_path(out).open("a") as log:
        for number, star in enumerate(stars):
            record = MicrographRecord(**json.loads(read_record(star))["record"])
            if number % LINKS == 0:
                source = Path(shutil.copy(preview_path(out, PurePosixPath("m")), out / ".gtpick" / f"{number}.jpg"))
            if record.stem != "m":
                preview_path(out, PurePosixPath(record.stem)).hardlink_to(source)
                line = asdict(record) | {"lag_s": 3.0, "stage_seconds": {"infer": 0.3}, "backlog": 0}
                at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - 6 * (len(stars) - number)))
                log.write(json.dumps({"time": at, "state": "picked"} | line) + "\n")
    return len(stars)


@dataclass
class Monitor:
    """The process under test."""

    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_MB(self) -> float:
        """Largest resident memory so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


@contextmanager
def monitoring(out: Path) -> Iterator[Monitor]:
    """Run the public command."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [PROGRAM, "monitor", str(out), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            sys.exit("the monitor did not start")
        try:
            yield Monitor(process, port)
        finally:
            process.terminate()


async def must_know(port: int, count: int) -> None:
    """End the program when the monitor does not know of so many micrographs."""
    status = json.loads(await Connection(port).get("/api/status"))
    if status["done"] != count:
        sys.exit(f"{status['done']} of {count} micrographs are known")


def opening(out: Path, count: int, viewers: int, seconds: float) -> dict[str, Any]:
    """Start the monitor, let viewers come, and see what that costs."""
    started = time.perf_counter()
    with monitoring(out) as monitor:
        asyncio.run(Connection(monitor.port).get("/"))
        page_s = time.perf_counter() - started
        asyncio.run(must_know(monitor.port, count))
        start_cpu_s = monitor.cpu_s()
        alone_MB = monitor.peak_MB()
        seen = viewing(monitor.port, viewers, seconds)
        return {
            "start_to_page_s": round(page_s, 2),
            "start_cpu_s": round(start_cpu_s, 2),
            "peak_MB_without_viewers": alone_MB,
            "peak_MB_with_viewers": monitor.peak_MB(),
            "cpu_s_of_opening_and_staying": round(monitor.cpu_s() - start_cpu_s, 2),
            "stayed_s": seconds,
            "viewers": seen,
        }


def viewing_command(port: int, viewers: int, seconds: float) -> list[str]:
    """`monitor_viewers.py` as a process."""
    return [sys.executable, str(Path(__file__).with_name("monitor_viewers.py")), str(port), str(viewers), str(seconds)]


def viewing(port: int, viewers: int, seconds: float) -> dict[str, Any]:
    """Let viewers come and stay; gives their figures."""
    command = viewing_command(port, viewers, seconds)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def pick_more(folder: Path, mark: str, count: int) -> float:
    """Pick so many new micrographs; seconds for each, from the first STAR file to the last."""
    inputs = folder / mark
    inputs.mkdir()
    for number in range(count):
        (inputs / f"{mark}_{number:04}.mrc").hardlink_to(folder / "large" / "synthetic_0000.mrc")
    subprocess.run(pick_command([inputs], folder / "out", None, DIAMETER_A), check=True, capture_output=True)
    stars = [star_path(folder / "out", PurePosixPath(path.stem)) for path in inputs.iterdir()]
    written = sorted(star.stat().st_mtime for star in stars)
    return (written[-1] - written[0]) / (count - 1)


def slowdown(folder: Path, rounds: int, count: int, viewers: int) -> dict[str, Any]:
    """Time per micrograph without the monitor and with it, by turns; which is first changes."""
    pairs, cpu_s, told = [], [], []
    for number in range(rounds):
        seconds = {}
        for watched in (False, True) if number % 2 else (True, False):
            mark = f"r{number}{'w' if watched else 'a'}"
            if not watched:
                seconds[watched] = pick_more(folder, mark, count)
                continue
            with monitoring(folder / "out") as monitor:
                watching = viewing_command(monitor.port, viewers, 3600)
                with subprocess.Popen(watching, stdout=subprocess.PIPE, text=True) as process:
                    assert process.stdout is not None
                    process.stdout.readline()  # all viewers have come
                    before, began = monitor.cpu_s(), time.perf_counter()
                    seconds[watched] = pick_more(folder, mark, count)
                    cpu_s.append((monitor.cpu_s() - before) / (time.perf_counter() - began))
                    process.terminate()
                    told.append(json.loads(process.communicate()[0])["new_micrographs_told"]["median"])
        pairs.append((seconds[False], seconds[True]))
        print(f"round {number}: {pairs[-1][0]:.3f} s alone, {pairs[-1][1]:.3f} s watched", flush=True)
    ratios = sorted(watched / alone for alone, watched in pairs)
    return {
        "micrographs_per_round": count,
        "size_px": SIDE_PX,
        "seconds_per_micrograph": [[round(each, 4) for each in pair] for pair in pairs],
        "median_ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "told_of_them": statistics.median(told),
        "monitor_share_of_a_core": round(statistics.median(cpu_s), 3),
    }


def main() -> None:
    """Prepare the folder, measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help="micrographs that are done")
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="that viewers stay after opening the page")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--more", type=int, default=60, help="micrographs picked in each round")
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, options.count)
        known = tell(folder / "out")
        (folder / "large").mkdir()
        write_synthetic(folder / "large", 1, SIDE_PX, SIDE_PX, DIAMETER_A)
        result = {
            "micrographs": known,
            "viewers": options.viewers,
            "opening": opening(folder / "out", known, options.viewers, options.seconds),
            "picking": slowdown(folder, options.rounds, options.more, options.viewers) if options.rounds else None,
        }
    print(json.dumps(result, indent=1))
    if not options.no_save:
        save(__file__, circumstances(["python", *sys.argv]) | {"sample": str(SAMPLE.relative_to(ROOT))} | result)


if __name__ == "__main__":
    main()
