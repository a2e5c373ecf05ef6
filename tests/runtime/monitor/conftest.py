"""The monitor of a folder that is told line by line, asked by a client or served for real."""

import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.types import ASGIApp

from gtpick_rt.monitor import feed
from gtpick_rt.monitor.app import make_app
from gtpick_rt.output.layout import preview_path
from gtpick_rt.types import Picks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2
    from starlette.testclient import TestClient

HOME = "http://127.0.0.1:8470"
JPEG = b"\xff\xd8 a picture"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_S", 0.02)
    monkeypatch.setattr(feed, "STATUS_S", 0.05)


@pytest.fixture
def detections() -> Picks:
    """Three picks and two others on a micrograph of 300 x 200 pixels, worst first."""
    xy = [[299, 199], [10, 20], [150, 99.5], [0, 0], [60, 30]]
    score = np.array([0.1, 0.2, 0.5, 0.7, 0.9], np.float32)
    return Picks(np.array(xy, np.float32), np.full(5, 50, np.float32), score)


@pytest.fixture
def run(told: Any, detections: Picks) -> Any:
    """A folder with three micrographs, the second flagged, and one failure."""
    told.begun()
    told.picked("a", detections)
    told.picked("b", detections, flags=["ice"], warnings=["odd"])
    told.failed("bad")
    told.picked("sub/c", detections)
    told.summary()
    picture = preview_path(told.out, PurePosixPath("a"))
    picture.parent.mkdir()
    picture.write_bytes(JPEG)
    return told


@pytest.fixture
def ask() -> Iterator[Callable[..., TestClient]]:
    """A function that gives a client of the monitor of a folder, once it knows of so many
    micrographs.
    """
    opened: list[TestClient] = []

    def make(out: Path, known: int = 0, **options: Any) -> TestClient:
        client = TestClient(make_app(out, **options), base_url=HOME, raise_server_exceptions=False)
        opened.append(client.__enter__())
        headers = {"Authorization": f"Bearer {options['token']}"} if "token" in options else {}
        wait_until(lambda: counted(client.get("/api/status", headers=headers).json()) >= known)
        return client

    yield make
    for client in opened:
        client.__exit__()


@pytest.fixture
def client(run: Any, ask: Callable[..., TestClient]) -> TestClient:
    """A client of the monitor of `run`."""
    return ask(run.out, known=4)


def counted(status: dict[str, Any]) -> int:
    return int(status["done"] + status["failed"])


def wait_until(holds: Callable[[], bool]) -> None:
    """Fails after 20 s."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until something holds."""
    return wait_until


@pytest.fixture
def served() -> Callable[[ASGIApp], Any]:
    """A context manager that serves an application on a port of its own, and gives its address."""

    @contextmanager
    def serve(app: ASGIApp) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            wait_until(lambda: server.started)
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    return serve
