"""Pictures of the live page and of the report for README and docs.

A real `pick --watch`, `monitor` and `report` on simulated micrographs, in Chromium.

The micrographs are made by `gtpick-rt simulate`, with one that is cut off. Those that may decide
on the threshold lie in the watched folder before the run begins, so that each run has the same
picks; the others are brought one by one. When all are picked the run is ended, so that all pictures
show the same rates: the page is opened in light and in dark colours and written to
docs/monitor_light.png, its first screen, and docs/monitor_dark.png, down to the particles; then the
head of the report to docs/report.png. Needs playwright and Debian's chromium.
"""

import argparse
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image

from benchmarks.shared.common import PROGRAM, ROOT, pick_command
from gtpick_rt.detection.survey import USUAL
from gtpick_rt.following.status import FINISHED

CHROMIUM = "/usr/bin/chromium"
PICTURES = ("monitor_light.png", "monitor_dark.png", "report.png")
MICROGRAPHS, DIAMETER_A = 24, 214.0
SURVEYED = USUAL + 1
"""Files that lie there before the run begins: as many as a survey looks at, and the one that is cut
off."""
INTERVAL_S = 1.0
SIZE_PX = (1280, 800)
_READY_S = 60.0
_MOST_BYTES = 400_000


def simulate(folder: Path, count: int = MICROGRAPHS) -> list[Path]:
    """Make micrographs of the specimen of sample/ and cut one off, in the order of arrival."""
    command = [PROGRAM, "simulate", str(folder), f"--count={count}", "--size=1280", "--particle=60"]
    subprocess.run([*command, "--snr=0.06", "--seed=6"], check=True, stdout=subprocess.DEVNULL)
    made = sorted(folder.glob("*.mrc"))
    cut = folder / "sim_0002_cut_off.mrc"
    cut.write_bytes(made[2].read_bytes()[:2_000_000])
    return [*made[:2], cut, *made[2:]]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """Run a command in a folder beside this one; it is ended by SIGTERM."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def monitor(folder: Path) -> Iterator[str]:
    """The address of a monitor of the folder's `picks`, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    with running([PROGRAM, "monitor", "picks", f"--port={port}"], folder):
        end = time.monotonic() + _READY_S
        while not _answers(url):
            if time.monotonic() > end:
                sys.exit(f"{url} does not answer")
            time.sleep(0.2)
        yield url


def _answers(url: str) -> bool:
    try:
        urlopen(url).close()
    except URLError:
        return False
    return True


def status_at(url: str) -> dict[str, Any]:
    """What the monitor at this address tells of the run."""
    with urlopen(f"{url}api/status") as answer:
        status: dict[str, Any] = json.load(answer)
    return status


def wait_until_done(url: str, count: int) -> None:
    """Wait until so many micrographs are picked."""
    while status_at(url)["done"] < count:
        time.sleep(0.5)


def wait_until_ended(url: str) -> None:
    """Wait until the run is seen to have ended."""
    while status_at(url)["state"] != FINISHED:
        time.sleep(0.5)


def bring(made: list[Path], folder: Path, interval_s: float) -> None:
    """Let the micrographs arrive."""
    folder.mkdir(exist_ok=True)
    for path in made:
        shutil.copy(path, folder)
        time.sleep(interval_s)


def photograph(url: str, scheme: Literal["light", "dark"], whole: bool) -> bytes:
    """Open the page and take a picture of its first screen or, `whole`, down to the particles."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(url)
        page.locator("#hist-score rect").first.wait_for(state="attached")
        page.locator("#failures li").first.wait_for()
        page.locator("#particles img").first.wait_for()
        loaded = "[...document.querySelectorAll('#particles img')].every((each) => each.complete && each.naturalWidth)"
        page.locator("#particles").scroll_into_view_if_needed()
        while not page.evaluate(loaded):
            page.wait_for_timeout(100)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_function("document.getElementById('picture').complete")
        below = page.locator(".lists").bounding_box()
        height = int(below["y"]) if whole and below else SIZE_PX[1]
        picture = page.screenshot(clip={"x": 0, "y": 0, "width": SIZE_PX[0], "height": height}, full_page=True)
        browser.close()
    return picture


def save(picture: bytes, path: Path) -> None:
    """Write a PNG with a palette, which takes a third of the bytes and looks the same."""
    opened = Image.open(io.BytesIO(picture)).convert("RGB")
    palette = opened.quantize(160, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)
    size = path.stat().st_size
    print(f"written: {path}, {size // 1000} kB")
    if size > _MOST_BYTES:
        sys.exit(f"{path}: larger than {_MOST_BYTES} bytes")


def photograph_report(folder: Path) -> bytes:
    """Make the report of the run, and take a picture of its first screen."""
    from playwright.sync_api import sync_playwright

    subprocess.run([PROGRAM, "report", "picks"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]}, color_scheme="light")
        page.goto((folder / "picks" / "report.html").as_uri())
        picture = page.screenshot()
        browser.close()
    return picture


def take(out: Path) -> dict[str, dict[str, Any]]:
    """Bring micrographs to a run that is watched, and take the pictures when it has ended.

    Returns what they show, by their names.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        work = Path(temporary)
        made, watched = simulate(work / "simulated"), work / "micrographs"
        bring(made[:SURVEYED], watched, interval_s=0)
        watch = ["--watch", "--settle=0.3", "--max-wait=4"]
        command = pick_command([Path("micrographs")], Path("picks"), None, DIAMETER_A) + watch
        url = stack.enter_context(monitor(work))
        with running(command, work):
            bring(made[SURVEYED:], watched, INTERVAL_S)
            wait_until_done(url, MICROGRAPHS)
        wait_until_ended(url)
        light, dark, report = (out / name for name in PICTURES)
        save(photograph(url, "light", whole=False), light)
        save(photograph(url, "dark", whole=True), dark)
        save(photograph_report(work), report)
        picks = status_at(url)["picks"]
    what = {"of": f"{MICROGRAPHS} simulated micrographs and one cut off", "diameter_A": DIAMETER_A, "picks": picks}
    return dict.fromkeys(PICTURES, what)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    take(arguments.out)


if __name__ == "__main__":
    main()
