"""The page on an output folder that was made up."""

import re
from collections.abc import Callable
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

OpenPage = Callable[..., Any]

# The contrast of two colours of the page, by WCAG 2.
CONTRAST = """([front, back]) => {
  const probe = document.body.appendChild(document.createElement('i'));
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255);
    const linear = parts.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
  probe.remove();
  return (high + 0.05) / (low + 0.05);
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, select, [role=option], [role=button], [role=img]')]
  .filter((each) => !(each.getAttribute('aria-label') || each.labels?.length || each.textContent.trim()))
  .map((each) => each.outerHTML)"""


@pytest.fixture
def page(history: Any, open_page: OpenPage) -> Any:
    opened = open_page(history.url)
    opened.locator("#trend-picks .outlier").first.wait_for()
    opened.locator("#browse tr").first.wait_for()
    return opened


def shown(page: Any, name: str) -> None:
    expect(page.locator("#name")).to_have_text(name)


def test_a_stall_is_shown_with_what_waits_and_since_when(page: Any) -> None:
    assert page.locator("#state-name").inner_text() == "Stalled"
    alarm = page.locator("#alarm")
    assert alarm.is_visible()
    assert re.search(r"Nothing was picked for 1\d min though 7 wait", alarm.inner_text())  # 10, and the test's own
    assert "Stalled" in page.title()


def test_it_is_shown_that_the_network_adapts_itself_and_to_how_many(page: Any) -> None:
    told = re.compile(r"the network adapts itself to 12 micrographs; last one 1\d min ago")
    expect(page.locator("#state-age")).to_have_text(told)


def test_hostile_names_and_messages_are_text_everywhere(page: Any, history: Any) -> None:
    shown(page, history.hostile.rsplit("/", 1)[-1])
    assert history.hostile in page.locator("#facts").evaluate("each => each.textContent")
    assert history.hostile in page.locator("#failures").evaluate("each => each.textContent")
    assert history.hostile.rsplit("/", 1)[-1] in page.locator("#browse").evaluate("each => each.textContent")
    assert page.evaluate("document.querySelectorAll('img[onerror], [src=x], main script').length") == 0
    assert page.evaluate("window.harm") is None


def test_the_threshold_slider_changes_circles_and_count_and_goes_back_to_as_written(page: Any) -> None:
    page.locator("#strip li").nth(1).click()
    shown(page, "mic_00058.mrc")
    circles = page.locator("#circles")
    expect(circles).to_have_attribute("data-circles", "20")
    assert page.locator("#count").inner_text() == "20"
    picture = circles.evaluate("each => each.toDataURL()")
    page.locator("#threshold").focus()
    page.keyboard.press("Home")
    expect(circles).to_have_attribute("data-circles", "30")
    assert page.locator("#count").inner_text() == "30"
    assert "+10 to the 20 as written" in page.locator("#count-note").inner_text()
    assert "rethreshold" in page.locator("#hint").inner_text()
    assert circles.evaluate("each => each.toDataURL()") != picture
    page.keyboard.press("End")
    expect(circles).to_have_attribute("data-circles", "0")
    page.locator("#written").click()
    expect(circles).to_have_attribute("data-circles", "20")
    assert not page.locator("#hint").is_visible()
    assert circles.evaluate("each => each.toDataURL()") == picture


def test_the_micrograph_is_zoomed_moved_and_filtered_by_keys_and_wheel(page: Any) -> None:
    picture = page.locator("#picture")
    whole = picture.get_attribute("style")
    page.locator("#viewer").focus()
    for _ in range(3):
        page.keyboard.press("+")
    expect(page.locator("#viewer")).to_contain_class("zoomed")
    zoomed = picture.get_attribute("style")
    page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("style", zoomed)
    page.keyboard.press("0")
    expect(picture).to_have_attribute("style", whole)
    page.locator("#viewer").hover()
    page.mouse.wheel(0, -300)
    expect(page.locator("#viewer")).to_contain_class("zoomed")
    page.locator("[data-do=fit]").click()
    page.locator("#blur").focus()
    page.keyboard.press("End")
    expect(picture).to_have_css("filter", re.compile(r"blur\(6px\)"))
    assert page.locator("#blur-value").inner_text() == "σ 12 Å"


def test_the_strip_is_walked_with_arrows_and_following_is_taken_up_again(page: Any, history: Any) -> None:
    assert page.locator("#strip li").count() == 24
    page.locator("#strip li[aria-selected=true]").focus()
    page.keyboard.press("ArrowLeft")
    shown(page, "mic_00058.mrc")
    assert page.locator("#follow").get_attribute("aria-pressed") == "false"
    page.keyboard.press("Home")
    shown(page, "mic_00036.mrc")
    page.locator("#older").click()
    shown(page, "mic_00035.mrc")
    page.locator("#newer").click()
    shown(page, "mic_00036.mrc")
    page.locator("#follow").click()
    shown(page, history.hostile.rsplit("/", 1)[-1])


def test_older_micrographs_come_by_pages_and_by_flag(page: Any, history: Any) -> None:
    note = page.locator("#browse-note")
    expect(note).to_contain_text("1 to 24")
    page.locator("#page-older").click()
    expect(note).to_contain_text("25 to 48")
    page.locator("#page-older").click()
    expect(note).to_contain_text("49 to 60")
    assert note.inner_text() == f"49 to {history.count} of {history.count}"
    assert page.locator("#page-older").is_disabled()
    page.locator("#browse button", has_text="mic_00000.mrc").click()
    shown(page, "mic_00000.mrc")
    page.locator("#filter").select_option("ice")
    expect(note).to_have_text("1 to 1 of 1")
    assert page.locator("#browse .flag").inner_text() == "ice"


def test_outliers_lead_to_their_micrograph_by_click_and_by_key(page: Any) -> None:
    outliers = page.locator("#trend-picks .outlier")
    assert outliers.count() == 7
    page.locator("#trend-picks .outlier.unusual").click()
    shown(page, "mic_00030.mrc")
    expect(page.locator("#circles")).to_have_attribute("data-circles", "80")
    outliers.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    shown(page, "mic_00015.mrc")


def test_the_score_histogram_tells_what_a_threshold_leaves(page: Any) -> None:
    label = page.locator("#hist-score").get_attribute("aria-label")
    assert "0.40: 21 per micrograph" in label
    page.locator("#threshold").focus()
    page.keyboard.press("Home")
    expect(page.locator("#hist-score .mark-line.chosen")).to_have_count(1)
    assert "0.00: 31 per micrograph" in page.locator("#hist-score").get_attribute("aria-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes_and_the_choice_is_kept(open_page: OpenPage, history: Any, scheme: str) -> None:
    page = open_page(history.url, color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    assert page.locator("html").get_attribute("data-theme") == scheme
    for front in ("ink", "soft", "accent", "good", "warn", "bad", "curve"):
        for back in ("panel", "page", "sunk"):
            assert page.evaluate(CONTRAST, [front, back]) >= 4.5, (front, back)
    for front in ("edge", "empty", "crowded", "carbon", "ice", "faint"):
        assert page.evaluate(CONTRAST, [front, "panel"]) >= 3, front
    page.locator("#theme").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == other


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen_and_everything_has_a_name(
    open_page: OpenPage, history: Any, width: int
) -> None:
    page = open_page(history.url, viewport={"width": width, "height": 800})
    page.locator("#trend-picks .outlier").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NAMELESS) == []


def test_a_page_that_waits_for_the_server_says_that_it_loads(page: Any, history: Any) -> None:
    held: list[Any] = []
    page.route("**/api/micrographs?*", lambda route: held.append(route))
    page.reload()
    shown(page, "Loading")
    assert page.locator("#empty").inner_text() == "The folder is being loaded"
    expect(page.locator("#state-name")).to_have_text("Stalled")
    shown(page, "Loading")
    page.unroute("**/api/micrographs?*")  # which lets those go on that were held
    shown(page, history.hostile.rsplit("/", 1)[-1])


def test_a_folder_without_a_micrograph_says_what_it_waits_for(page: Any) -> None:
    page.route("**/api/micrographs?*", lambda route: route.fulfill(json={"micrographs": [], "total": 0}))
    page.reload()
    shown(page, "No micrograph yet")
    assert page.locator("#empty").inner_text() == "Waiting for the first micrograph"


def test_few_micrographs_have_axes_of_whole_numbers(page: Any) -> None:
    def of_two(route: Any) -> None:
        found = route.fetch().json()
        few = {"micrographs": 2, "outliers": []}
        lists = {name: values[:2] for name, values in found.items() if isinstance(values, list)}
        route.fulfill(json=found | lists | few | {"picks_median": [1, 2], "picks_q25": [1, 2], "picks_q75": [1, 2]})

    page.route("**/api/trends", of_two)
    page.reload()
    expect(page.locator("#trends-note")).to_have_text("2 micrographs")
    for chart in ("trend-picks", "trend-flags"):
        ticks = page.locator(f"#{chart} .tick").all_text_contents()
        assert not [text for text in ticks if "." in text]
    assert {"0", "1", "2"} <= set(page.locator("#trend-picks .tick").all_text_contents())


def test_a_batch_has_no_lag_to_show(page: Any) -> None:
    lag = page.locator("#tiles .figure", has_text="Lag").first
    assert lag.is_visible()
    batch = """async () => {
      const { Overview } = await import("/static/overview.js");
      const status = await (await fetch("/api/status")).json();
      new Overview().fill({ ...status, lag_p50_s: null, lag_p95_s: null });
    }"""
    page.evaluate(batch)
    assert not lag.is_visible()


def test_the_average_rate_stands_beside_one_of_now_that_differs(page: Any) -> None:
    average = page.locator("#tiles .figure", has_text="Average / h")
    shown = """async (now) => {
      const { Overview } = await import("/static/overview.js");
      const status = await (await fetch("/api/status")).json();
      new Overview().fill({ ...status, files_per_hour: now, average: { files_per_hour: 7204 } });
    }"""
    page.evaluate(shown, 7204)
    assert not average.is_visible()
    page.evaluate(shown, 600)
    expect(average).to_contain_text("7,200")
