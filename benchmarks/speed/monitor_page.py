"""How soon does the monitor's page show what `pick --watch` commits?

And how soon is the page itself there?

Simulated micrographs are brought into a watched folder one by one, and headless Chromium follows
the newest. Counted is the time from a micrograph's STAR file, by its time of change, to the moment
when the page has drawn its circles, both by the clock of the same machine; and, for the page that
is opened anew at the end, from the request to the first paint and to the drawn circles. Writes
results/monitor_page.json. Needs playwright and Debian's chromium.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.shared.common import circumstances, pick_command, save
from benchmarks.speed.monitor_screenshots import (
    CHROMIUM,
    DIAMETER_A,
    bring,
    monitor,
    running,
    simulate,
    wait_until_done,
)

INTERVAL_S = 2.0

# Notes for each name in the heading when the circles were drawn for it.
WATCH = """() => {
  window.drawn = {};
  const canvas = document.getElementById('circles');
  new MutationObserver(() => { window.drawn[document.getElementById('name').textContent] ??= Date.now() / 1000; })
    .observe(canvas, { attributes: true, attributeFilter: ['aria-label', 'data-circles'] });
}"""
PAINTED = """() => {
  const painted = performance.getEntriesByName('first-contentful-paint')[0];
  return { painted: painted.startTime / 1000, drawn: performance.now() / 1000 };
}"""


def opened(page: Page, url: str) -> dict[str, float]:
    """Seconds to the first paint and to the drawn circles of a page that is opened now."""
    page.goto(url)
    page.locator("#circles[data-circles]").wait_for()
    return {name: round(value, 2) for name, value in page.evaluate(PAINTED).items()}


def judge(drawn: dict[str, float], picks: Path) -> dict[str, Any]:
    """Compare when each was drawn with when its STAR file was written."""
    committed = {f"{path.name.removesuffix('_autopick.star')}.mrc": path for path in picks.glob("*_autopick.star")}
    after = sorted(drawn[name] - path.stat().st_mtime for name, path in committed.items() if name in drawn)
    return {
        "micrographs": len(after),
        "median": round(statistics.median(after), 2),
        "p95": round(after[int(0.95 * len(after))], 2),
        "largest": round(after[-1], 2),
    }


def main() -> None:
    """Let micrographs arrive while a browser follows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micrographs", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        work = Path(temporary)
        made = simulate(work / "simulated", arguments.micrographs)
        command = [*pick_command([Path("micrographs")], Path("picks"), None, DIAMETER_A), "--watch", "--max-wait=4"]
        stack.enter_context(running(command, work))
        url = stack.enter_context(monitor(work))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.evaluate(WATCH)
        threading.Thread(target=bring, args=(made, work / "micrographs", INTERVAL_S), daemon=True).start()
        wait_until_done(url, arguments.micrographs)
        time.sleep(3)
        freshness = judge(page.evaluate("window.drawn"), work / "picks")
        result = {"from_commit_to_circles_s": freshness, "opened_s": opened(browser.new_page(), url)}
        browser.close()
    print(json.dumps(result, indent=1))
    save(__file__, circumstances([*command, "&", "gtpick-rt", "monitor", "picks"]) | result)


if __name__ == "__main__":
    main()
