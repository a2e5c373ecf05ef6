"""Viewers of `gtpick-rt monitor`, who do what the script of its page does.

They are started by monitor.py.

python monitor_viewers.py PORT VIEWERS SECONDS
"""

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

SHOW_S, REFRESH_S = 1.0, 5.0
"""As the page's script does."""


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
    """So many viewers, who open the page at once and stay for so long, or until SIGTERM.

    Gives their figures.

    Prints a line when all have opened it.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # viewers are elsewhere
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


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
