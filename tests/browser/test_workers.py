"""The page of a run of several workers."""

from collections.abc import Callable
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

OpenPage = Callable[..., Any]


def test_each_worker_is_shown_with_its_rate_and_the_numbers_move(workers: Any, open_page: OpenPage) -> None:
    page = open_page(workers.url)
    panel = page.get_by_role("region", name="Workers")
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first.locator("th")).to_have_text("gpu0")
    expect(rows.first.locator("td").first).to_have_text("24")
    assert rows.nth(1).locator("th").evaluate("each => each.textContent") == workers.hostile
    expect(panel.locator("#workers-note")).to_contain_text("2, together")
    expect(page.locator("#setup")).to_contain_text("cpu × 2")
    rate = rows.first.locator("td").nth(1).inner_text()
    assert float(rate.replace(",", "")) > 0
    workers.picked(37, "gpu0")
    expect(rows.first.locator("td").first).to_have_text("25")
    workers.picked(38, "gpu1")
    expect(rows).to_have_count(3)
    assert page.evaluate("window.harm") is None


def test_a_run_in_one_process_has_no_workers_to_show(open_page: OpenPage, history: Any) -> None:
    page = open_page(history.url)
    expect(page.locator("#state-name")).to_have_text("Stalled")
    expect(page.get_by_role("region", name="Workers")).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1280])
def test_workers_are_not_wider_than_the_screen(workers: Any, open_page: OpenPage, width: int) -> None:
    page = open_page(workers.url, viewport={"width": width, "height": 800})
    expect(page.locator("#workers tr")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
