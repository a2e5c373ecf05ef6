"""What `gtpick-rt monitor` costs: 50 viewers look at a run that has picked 50,000 micrographs and goes on picking.

First the monitor is started on the folder: seconds until the page is there and all micrographs are known. Then 50
viewers open the page at once and stay, and do what the page's script does: they listen to events, get the picture of
each new micrograph, the picks of the newest once a second, and the charts every 5 s. Last, more micrographs are picked
into the same folder by the public command, by turns without the monitor and with it and its viewers; the time per
micrograph is that between the first and the last STAR file. The viewers run on the same machine, at the lowest
priority. Writes results/monitor.json.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from common import ROOT, circumstances, pick_command, save
from restart import DIAMETER_A, LINKS, SAMPLE, prepare

from gtpick_rt.bench import write_synthetic
from gtpick_rt.formats.star import read_record
from gtpick_rt.layout import log_path, preview_path, star_path
from gtpick_rt.summary import MicrographRecord

SIDE_PX = 4096
"""Of the micrographs that are picked while it is measured."""
TICK = os.sysconf("SC_CLK_TCK")
SHOW_S, REFRESH_S = 1.0, 5.0
"""As the page's script does."""


def tell(out: Path) -> int:
    """Give the folder that `prepare` has made the log and the previews that its run would have left."""
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


class Connection:
    """Asks for one thing after the other over one connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.received = self.requests = 0

    async def start(self, path: str) -> asyncio.StreamReader:
        """Ask for `path`, and give the stream after the head of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            sys.exit(f"{path}: {head.decode()}")
        self._length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        return reader

    async def get(self, path: str) -> bytes:
        """Ask for `path`."""
        self.requests += 1
        reader = await self.start(path)
        self.received += self._length
        return await reader.readexactly(self._length)


@dataclass
class Viewer:
    """One who has the page open."""

    port: int
    page_s: float = 0.0
    """Until the page was there."""
    data_s: float = 0.0
    """Until the status, the newest micrograph and the strip of the last 24 pictures were there."""
    charts_s: float = 0.0
    """Until the charts were there, too."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    told: int = 0
    """New micrographs."""
    _new: list[dict[str, Any]] = field(default_factory=list)

    async def look(self) -> None:
        """Open the page and stay."""
        self.connection, started = Connection(self.port), time.perf_counter()
        page = await self.connection.get("/")
        self.page_s = time.perf_counter() - started
        for part in page.split(b'"'):
            if part.startswith(b"/static/"):
                await self.connection.get(part.decode())
        listening = Connection(self.port)  # it is open as long as it has a name
        events = await listening.start("/api/events")
        await self.connection.get("/api/status")
        listed = json.loads(await self.connection.get("/api/micrographs?limit=24"))["micrographs"]
        await self._show(listed)
        self.data_s = time.perf_counter() - started
        await self._refresh()
        self.charts_s = time.perf_counter() - started
        self.opened.set()
        await asyncio.gather(self._listen(events), self._go_on())

    async def _show(self, rows: list[dict[str, Any]]) -> None:
        """Get the picks of the newest, which comes first, and the pictures of all."""
        await self.connection.get(f"/api/micrographs/{rows[0]['id']}")
        for row in rows:
            await self.connection.get(f"/api/micrographs/{row['id']}/preview.jpg?t={row['time']}")

    async def _refresh(self) -> None:
        for path in ("trends", "histograms", "micrographs?limit=24", "failures"):
            await self.connection.get(f"/api/{path}")

    async def _listen(self, events: asyncio.StreamReader) -> None:
        name = b""
        while True:
            line = await events.readline()
            if not line:
                sys.exit("the monitor has closed the connection")
            if line.startswith(b"event: "):
                name = line.strip()
            elif line.startswith(b"data: ") and name == b"event: picked":
                self.told += 1
                self._new.insert(0, json.loads(line[6:]))

    async def _go_on(self) -> None:
        stale, refreshed = False, time.monotonic()
        while True:
            await asyncio.sleep(SHOW_S)
            if self._new:
                rows, self._new, stale = self._new, [], True
                await self._show(rows)
            if stale and time.monotonic() - refreshed > REFRESH_S:
                stale, refreshed = False, time.monotonic()
                await self._refresh()


def watch(port: int, count: int, seconds: float) -> dict[str, Any]:
    """So many viewers, who open the page at once and stay for so long, or until SIGTERM. Gives their figures.

    Prints a line when all have opened it.
    """
    os.nice(19)
    viewers = [Viewer(port) for _ in range(count)]

    async def say_when_open() -> None:
        for viewer in viewers:
            await viewer.opened.wait()
        print("open", flush=True)
        await asyncio.sleep(seconds)

    async def all_look() -> None:
        enough = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
        looking = [viewer.look() for viewer in viewers]
        tasks = [asyncio.create_task(each) for each in (enough.wait(), say_when_open(), *looking)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_look())
    return {
        **{name: spread([getattr(viewer, name) for viewer in viewers]) for name in ("page_s", "data_s", "charts_s")},
        "new_micrographs_told": spread([viewer.told for viewer in viewers]),
        "requests": sum(viewer.connection.requests for viewer in viewers),
        "received_MB": round(sum(viewer.connection.received for viewer in viewers) / 1e6, 1),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median and largest."""
    return {"median": round(statistics.median(values), 3), "largest": round(max(values), 3)}


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
    command = [str(Path(sys.executable).with_name("gtpick-rt")), "monitor", str(out), "--port", str(port)]
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


def viewing(port: int, viewers: int, seconds: float) -> dict[str, Any]:
    """`watch` in a process of its own."""
    command = [sys.executable, __file__, "--watch", str(port), str(viewers), str(seconds)]
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
                watching = [sys.executable, __file__, "--watch", str(monitor.port), str(viewers), "3600"]
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
    parser.add_argument("--watch", nargs=3, metavar=("PORT", "VIEWERS", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        print(json.dumps(watch(int(options.watch[0]), int(options.watch[1]), float(options.watch[2]))))
        return
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
        save("monitor", circumstances(["python", *sys.argv]) | {"sample": str(SAMPLE.relative_to(ROOT))} | result)


if __name__ == "__main__":
    main()
