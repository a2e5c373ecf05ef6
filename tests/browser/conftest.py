"""A browser, pages that may do nothing amiss, the monitor beside them, and an output folder with a
history to tell.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from gtpick_rt.detection.quality import FLAGS
from gtpick_rt.output.layout import detections_path, lock_path, log_path, preview_path
from gtpick_rt.output.lock import lock_folder

THRESHOLD = 0.4
COUNT = 60
WIDTH, HEIGHT = 300, 200
HOSTILE = '<img src=x onerror="window.harm=1"><script>window.harm=1</script>{{7*7}}\u202e\x1b]0;.mrc'
_READY_S = 60.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sync_api.expect.set_options(timeout=30_000)
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address; the page may log no error, break no policy and ask no other
    host.
    """
    contexts: list[Any] = []
    amiss: list[str] = []

    def make(url: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: message.type == "error" and amiss.append(message.text))
        page.on("pageerror", lambda error: amiss.append(str(error)))
        page.on("dialog", lambda dialog: (amiss.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith((url, "data:")) or amiss.append(request.url))
        page.goto(url)
        page.locator("#strip li").first.wait_for()
        return page

    yield make
    for context in contexts:
        context.close()
    assert amiss == []


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A command of gtpick-rt beside the test."""
    command = [sys.executable, "-m", "gtpick_rt", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def monitor_of(out: Path) -> Iterator[str]:
    """The address of a monitor of `out`."""
    for module in ("jinja2", "prometheus_client", "sse_starlette", "starlette", "uvicorn"):
        pytest.importorskip(module, reason="the extra monitor is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running("monitor", out, "--port", port) as process:
        url = f"http://127.0.0.1:{port}/"
        end = time.monotonic() + _READY_S
        while True:
            try:
                urlopen(url).close()
                break
            except URLError:
                assert process.poll() is None and time.monotonic() < end, "the monitor does not answer"
                time.sleep(0.1)
        yield url


class History(NamedTuple):
    """What was made up, and where it is shown."""

    url: str
    hostile: str = HOSTILE
    count: int = COUNT
    threshold: float = THRESHOLD


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The monitor of a run that adapts its network, picked 60 micrographs, failed on one, and has
    done nothing for ten minutes.

    The last micrograph and the one that failed have hostile names; the others are called
    mic_00000.mrc and so on. Every tenth has a flag; number 30 has many more picks than its
    neighbours.
    """
    out = tmp_path_factory.mktemp("history")
    lock_path(out).parent.mkdir()
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        stack.callback(lock_folder(lock_path(out)).release)
        begun = time.time() - 600 - COUNT
        settings = {"model": "test 1", "diameter_A": 40.0, "threshold": THRESHOLD}
        lines = [_line(begun, "begun", settings=settings, backend="cpu"), _line(begun, "adapting", micrographs=12)]
        for number in range(COUNT):
            name = HOSTILE if number == COUNT - 1 else f"mic_{number:05}.mrc"
            lines.append(_picked(out, rng, begun + number, f"stem_{number}", name, 80 if number == 30 else 20))
        failure = {"stem": "broken", "path": HOSTILE, "kind": "UnreadableError", "message": f"{HOSTILE}: {HOSTILE}"}
        lines.append(_line(begun + COUNT, "failed", backlog=7, **failure))
        log_path(out).write_text("".join(lines))
        yield History(stack.enter_context(monitor_of(out)))


class ShownWorkers(NamedTuple):
    """Two workers, what they do, and where it is shown."""

    url: str
    picked: Callable[[int, str], None]
    """Lets a worker of this name pick the micrograph of this number."""
    hostile: str = HOSTILE


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[ShownWorkers]:
    """The monitor of a run of two workers, one with a hostile name, that have picked a micrograph a
    second.
    """
    out = tmp_path / "workers"
    lock_path(out).parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        stack.callback(lock_folder(lock_path(out)).release)
        begun = time.time() - 60
        settings = {"model": "test 1", "diameter_A": 40.0, "threshold": THRESHOLD}
        log_path(out).write_text(_line(begun, "begun", settings=settings, backend="cpu"))

        def picked(number: int, worker: str) -> None:
            line = _picked(out, rng, begun + number, f"stem_{number}", f"mic_{number}.mrc", 20, worker=worker)
            with log_path(out).open("a") as log:
                log.write(line)

        for number in range(37):
            picked(number, "gpu0" if number % 3 else HOSTILE)
        yield ShownWorkers(stack.enter_context(monitor_of(out)), picked)


class Live(NamedTuple):
    """A watched folder, what is picked from it, and where that is shown."""

    folder: Path
    out: Path
    url: str


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A running `pick --watch` and its monitor."""
    pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
    work = tmp_path_factory.mktemp("live")
    folder, out = work / "in", work / "picks"
    folder.mkdir()
    watch = ("--watch", "--settle", 0.3, "--max-wait", 1)
    with running("pick", folder, "--out", out, "--diameter", 214, *watch), monitor_of(out) as url:
        yield Live(folder, out, url)


def _line(at: float, state: str, **entry: object) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(at))
    return json.dumps({"time": stamp, "state": state, **entry}) + "\n"


def _picked(out: Path, rng: np.random.Generator, at: float, stem: str, name: str, picks: int, **figures: object) -> str:
    """Write what a run writes for a micrograph, and give the line of its log."""
    score = np.concatenate([rng.uniform(THRESHOLD, 1, picks), rng.uniform(0.05, THRESHOLD, 10)]).astype(np.float32)
    xy = rng.uniform((20, 20), (WIDTH - 20, HEIGHT - 20), (len(score), 2)).astype(np.float32)
    detections, preview = (place(out, PurePosixPath(stem)) for place in (detections_path, preview_path))
    for path in (detections, preview):
        path.parent.mkdir(exist_ok=True)
    np.savez(detections, xy_px=xy, diameter_px=np.full(len(score), 20, np.float32), score=score)
    grey = rng.normal(128, 30, (HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
    Image.fromarray(grey).save(preview)
    number = int(stem.removeprefix("stem_"))
    record = {
        "stem": stem,
        "name": name,
        "path": name,
        "width": WIDTH,
        "height": HEIGHT,
        "pixel_size_A": 2.0,
        "picks": picks,
        "detections": len(score),
        "seconds": 0.5,
        "median_score": float(np.median(score[:picks])),
        "flags": [FLAGS[number // 10 % len(FLAGS)]] if number % 10 == 5 else [],
        "lag_s": 1.5,
        "stage_seconds": {"read": 0.1, "infer": 0.4},
        "backlog": 7,
    }
    return _line(at, "picked", **record, **figures)
