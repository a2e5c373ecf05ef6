import base64
import builtins
import hashlib
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from gtpick_rt.errors import UsageError
from gtpick_rt.following.records import Entry
from gtpick_rt.output.layout import detections_path, preview_path
from gtpick_rt.output.summary import Outcome, WorkerRecord
from gtpick_rt.types import Picks

pytest.importorskip("jinja2", reason="Jinja2 is not installed (extra monitor)")
pytest.importorskip("markdown_it", reason="markdown-it-py is not installed (extra monitor)")

from gtpick_rt.cli.main import app
from gtpick_rt.following.particles import CELL_PX, COLUMNS, ROWS
from gtpick_rt.records import duration
from gtpick_rt.report import facts, gallery
from gtpick_rt.report.drawing import element, ticks
from gtpick_rt.report.page import make_report

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a' onload='alert(1)", "{{ 7 * 191 }}")
VOID = {"meta", "link", "img", "br", "input", "hr", "base"}


class Page(HTMLParser):
    """What a browser would find in a page: elements with their attributes, and the text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def picks() -> Picks:
    """Three picks and, below the threshold of 0.5, two detections."""
    xy_px = np.array([[10, 20], [150, 100], [299, 199], [5, 5], [200, 50]], np.float32)
    score = np.array([0.95, 0.9, 0.6, 0.3, 0.1], np.float32)
    return Picks(xy_px=xy_px, diameter_px=np.full(5, 50, np.float32), score=score)


def save_preview(out: Path, stem: str) -> None:
    path = preview_path(out, PurePosixPath(stem))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (1024, 683), 90).save(path, "JPEG")


@pytest.fixture
def run_of_ten(told: Any, picks: Picks) -> Path:
    """Ten micrographs picked, one of them with ice, and one failed."""
    told.begun()
    for number in range(10):
        told.now += 6
        flags = ["ice"] if number == 4 else []
        told.picked(f"m{number}", picks, median_score=0.9 - number / 100, flags=flags)
        save_preview(told.out, f"m{number}")
    told.failed("bad")
    told.summary()
    out: Path = told.out
    return out


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_the_page_is_well_formed_and_tells_the_figures_of_the_run(run_of_ten: Path) -> None:
    page = Page(make_report(run_of_ten, clock=lambda: 1.8e9 + 4000))
    assert page.open == []
    text = " ".join(page.text.split())
    for told in ("Micrographs picked 10", "Failed 1", "Flagged 1", "Picks 30", "Pixel size 2 Å"):
        assert told in text
    for told in ("nano 2", "Threshold 0.50", "Diameter 100 Å", "in/bad.mrc", "no image", "infer 400 ms"):
        assert told in text


def test_the_rates_are_those_of_the_duration_beside_them(told: Any, run_of_ten: Path) -> None:
    def text() -> str:
        return " ".join(Page(make_report(run_of_ten, clock=lambda: told.now + 4000)).text.split())

    assert "Duration 1 min 0 s from the start to the last micrograph" in text()
    assert "Micrographs / h 660 11 in 1 min 0 s Picks / h 1,800 in the same time" in text()
    told.now += 86400
    told.begun()
    told.now += 5
    told.picked("late")
    assert "Duration 1 min 5 s of all runs, without the time between them" in text()
    assert "Micrographs / h 665 12 in 1 min 5 s" in text()


def test_an_adaptation_is_told_in_a_line_and_two_charts(told: Any, run_of_ten: Path, adapted: Outcome) -> None:
    assert "Adaptation" not in Page(make_report(run_of_ten)).text
    told.summary(adaptation=adapted)
    page = Page(make_report(run_of_ten))
    assert "Adapted: learned from 3 micrographs" in page.text
    charts = [each["aria-label"] for each in page.all("div") if "aria-label" in each]
    assert "Picks on each of 3 micrographs: median 30 before, 40 now" in charts
    assert "Median score on each of 3 micrographs: median 0.66 before, 0.93 now" in charts
    assert "b.mrc: 0 before, 12 now" in page.text
    assert "b.mrc: 0.00" not in page.text
    kinds = Counter(each["class"] for each in page.all("circle") if (each.get("class") or "").startswith("change"))
    assert kinds == {"change before": 5, "change now": 6}


def test_a_refusal_to_adapt_is_told_with_its_reason(told: Any, run_of_ten: Path) -> None:
    told.summary(adaptation=Outcome(message="no <b>particles</b> are seen"))
    page = Page(make_report(run_of_ten))
    assert "Not adapted, the general network picks: no <b>particles</b> are seen" in page.text
    assert not [each for each in page.all("circle") if (each.get("class") or "").startswith("change")]


def test_nothing_is_loaded_and_nothing_runs(run_of_ten: Path) -> None:
    page = Page(make_report(run_of_ten))
    assert not page.all("script")
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert page.all("image")


def test_the_policy_lets_in_the_page_s_own_style_alone(run_of_ten: Path) -> None:
    made = make_report(run_of_ten)
    policy = next(each["content"] for each in Page(made).all("meta") if "http-equiv" in each)
    assert policy is not None
    style = made.partition(b"<style>")[2].partition(b"</style>")[0]
    own = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{own}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert b"url(" not in style
    assert b"@import" not in style


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(told: Any, picks: Picks, run_of_ten: Path, name: str) -> None:
    before = {tag for tag, _ in Page(make_report(run_of_ten)).elements}
    told.picked("evil", picks, name=name, flags=[name], warnings=[name])
    told.failed("worse", path=name, kind=name, message=name)
    told.begun(model=name)
    told.failed("worse", path=name, kind=name, message=name)
    page = Page(make_report(run_of_ten))
    assert page.open == []
    assert name in page.text
    assert {tag for tag, _ in page.elements} <= before
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)


def test_a_hostile_command_line_and_its_parameters_are_text(run_of_ten: Path) -> None:
    path = run_of_ten / "summary.json"
    path.write_text(path.read_text().replace('"pick"', '"pick", "<script>1</script>"').replace("diameter_A", "<b>_A"))
    page = Page(make_report(run_of_ten))
    assert not page.all("script")
    assert "gtpick-rt pick '<script>1</script>'" in page.text
    assert "<b>, Å" in page.text


def test_a_name_that_is_no_unicode_does_not_stop_it(told: Any, picks: Picks) -> None:
    told.picked("a", picks, name="in/\udcff.mrc")
    assert "in/?.mrc" in Page(make_report(told.out)).text


def test_only_picks_at_or_above_the_threshold_are_drawn_and_where_they_are(told: Any, picks: Picks) -> None:
    told.begun()
    told.picked("a", picks)
    save_preview(told.out, "a")
    made = make_report(told.out).decode()
    drawing = re.search(r'<svg class="micrograph".*?</svg>', made)
    assert drawing is not None
    circles = [each.attrib for each in ElementTree.fromstring(drawing.group()).iter("circle")]
    zoom = gallery.SIDE_PX / 300
    places = {(float(each["cx"]), float(each["cy"])) for each in circles}
    assert places == {(round((x + 0.5) * zoom, 1), round((y + 0.5) * zoom, 1)) for x, y in picks.xy_px[:3].tolist()}
    assert {float(each["r"]) for each in circles} == {round(100 / 2.0 / 2 * zoom, 1)}


def test_pictures_are_small_and_say_what_they_show(run_of_ten: Path) -> None:
    page = Page(make_report(run_of_ten))
    for each in page.all("image"):
        data = (each["href"] or "").partition("base64,")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert max(picture.size) in (gallery.SIDE_PX, CELL_PX * (COLUMNS + ROWS))
    shown = [each for each in page.all("svg") if each.get("class") == "micrograph"]
    assert len(shown) == 10
    assert all("picks drawn as circles" in (each["aria-label"] or "") for each in shown)
    assert all(each["aria-label"] for each in page.all("div") if each.get("role") == "img")


def test_an_old_run_without_previews_detections_and_scores_has_its_report(told: Any) -> None:
    for number in range(3):
        told.picked(f"m{number}", median_score=None)
    text = " ".join(Page(make_report(told.out)).text.split())
    assert "Median score not known" in text
    assert "Distributions" not in text
    assert "Picks per micrograph" in text


def test_damaged_previews_and_detections_are_left_out(run_of_ten: Path) -> None:
    preview_path(run_of_ten, PurePosixPath("m0")).write_bytes(b"\xff\xd8 no picture")
    detections_path(run_of_ten, PurePosixPath("m0")).write_bytes(b"PK no archive")
    labels = [each["aria-label"] or "" for each in Page(make_report(run_of_ten)).all("svg") if "aria-label" in each]
    assert sum("no preview is kept; its picks are not kept" in label for label in labels) == 1


def test_a_run_of_failures_alone_has_its_report(told: Any) -> None:
    told.failed("a")
    text = Page(make_report(told.out)).text
    assert "in/a.mrc" in text
    assert "Trends" not in text


def test_a_running_run_says_how_many_wait(told: Any, picks: Picks) -> None:
    told.begun()
    told.picked("a", picks, backlog=7)
    told.summary(backlog=7)
    assert "7 waiting" in Page(make_report(told.out)).text


@pytest.mark.parametrize("name", ["gpu0", *HOSTILE])
def test_several_workers_are_listed(told: Any, picks: Picks, name: str) -> None:
    told.picked("a", picks, worker="gpu1")
    told.picked("b", picks, worker=name)
    told.summary(workers=[WorkerRecord(name="gpu1", backend="tensorrt", micrographs=1, busy_s=1.0)])
    page = Page(make_report(told.out))
    assert re.search(r"gpu1\s+tensorrt\s+1\s", page.text)
    assert name in page.text
    assert not page.all("script")


def test_a_run_in_one_process_lists_no_workers(run_of_ten: Path) -> None:
    assert "Workers" not in Page(make_report(run_of_ten)).text


def test_shards_at_work_have_their_report_before_there_is_a_log_of_all(told: Any, picks: Picks) -> None:
    told.shard = "1/2"
    told.picked("a", picks)
    assert "shard 1/2" in Page(make_report(told.out)).text


def test_the_card_of_the_shipped_model_is_there(run_of_ten: Path) -> None:
    model = next(iter(facts.shipped_models().values()), None)
    if model is None:
        pytest.skip("no model ships with this installation")
    path = run_of_ten / "summary.json"
    path.write_text(path.read_text().replace('"ab"', f'"{hashlib.sha256(model.read_bytes()).hexdigest()}"'))
    page = Page(make_report(run_of_ten))
    assert "Model card: gtpick-nano" in page.text
    assert "|---" not in page.text
    assert len(page.all("h1")) == 1
    assert "Model card" not in Page(make_report(_with_sha256(run_of_ten, "cd"))).text


def _with_sha256(out: Path, sha256: str) -> Path:
    path = out / "summary.json"
    path.write_text(re.sub(r'"sha256": "\w+"', f'"sha256": "{sha256}"', path.read_text()))
    return out


def test_where_the_program_lies_is_not_told() -> None:
    assert facts.commands({"command": ["/home/me/bin/gtpick-rt", "pick", "a b"]}) == ["gtpick-rt pick 'a b'"]
    assert facts.commands({}) == []


def test_a_threshold_that_was_set_afterwards_is_set_again_to_repeat_it(run_of_ten: Path) -> None:
    path = run_of_ten / "summary.json"
    summary = json.loads(path.read_text())
    summary["parameters"] |= {"out": "my picks", "threshold_of_run": 0.5, "threshold": 0.62}
    path.write_text(json.dumps(summary, indent=1))
    again = "gtpick-rt pick\ngtpick-rt rethreshold 'my picks' --threshold 0.62"
    assert again in Page(make_report(run_of_ten)).text
    summary["parameters"]["threshold"] = 0.5  # and back
    path.write_text(json.dumps(summary, indent=1))
    assert "gtpick-rt rethreshold '" not in Page(make_report(run_of_ten)).text


def test_what_a_batch_does_not_know_is_left_out(told: Any, picks: Picks) -> None:
    told.begun()
    told.picked("a", picks, lag_s=None)
    told.summary()
    path = told.out / "summary.json"
    summary = json.loads(path.read_text())
    summary["parameters"] |= {
        "measured_diameter_A": None,
        "diameter_lower_quartile_A": None,
        "pixel_size_A": None,
        "mask_sha256": None,
        "skip_flagged": "",
    }
    path.write_text(json.dumps(summary, indent=1))
    text = " ".join(Page(make_report(told.out)).text.split())
    assert "Lag" not in text
    assert "measured diameter" not in text
    assert "lower quartile" not in text
    assert "mask sha256" not in text
    assert "skip flagged none" in text
    assert "pixel size, Å not given" in text
    told.picked("b", picks)
    assert "Lag 1.5 s" in " ".join(Page(make_report(told.out)).text.split())


def test_the_page_stays_small_however_long_the_run(told: Any, picks: Picks) -> None:
    for number in range(1200):
        told.picked(f"m{number}", picks if number < 2 else None, flags=["ice"] if number % 3 else [])
        told.failed(f"bad{number}")
    page = Page(make_report(told.out))
    assert len([each for each in page.all("svg") if each.get("class") == "micrograph"]) <= 14
    assert "1,000 more" in page.text
    assert len(page.elements) < 5000


def test_the_command_writes_into_the_folder_or_where_it_is_told(run_of_ten: Path, tmp_path: Path) -> None:
    assert report(run_of_ten).exit_code == 0
    other = tmp_path / "other.html"
    assert report(run_of_ten, "--out", other).exit_code == 0
    assert (run_of_ten / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert other.read_bytes().startswith(b"<!DOCTYPE html>")


def test_nothing_else_in_the_folder_changes(run_of_ten: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_of_ten.rglob("*")}
    assert report(run_of_ten, "--out", tmp_path / "r.html").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in run_of_ten.rglob("*")} == before


def test_a_foreign_folder_is_refused_with_the_way_out(tmp_path: Path, told: Any) -> None:
    told.begun()
    for out, told_of in (
        (tmp_path, "no output folder"),
        (tmp_path / "none", "no output folder"),
        (told.out, "is done"),
    ):
        with pytest.raises(UsageError, match=told_of):
            make_report(out)
    assert report(tmp_path).exit_code == 1
    assert not (tmp_path / "report.html").exists()


def test_it_does_not_write_over_a_micrograph_or_where_it_may_not(run_of_ten: Path, tmp_path: Path) -> None:
    precious = tmp_path / "a.mrc"
    precious.write_bytes(b"precious")
    assert report(run_of_ten, "--out", precious).exit_code == 1
    assert precious.read_bytes() == b"precious"
    (tmp_path / "folder.html").mkdir()
    assert report(run_of_ten, "--out", tmp_path / "folder.html").exit_code == 1


def test_without_the_extra_it_says_what_to_install(run_of_ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "gtpick_rt.report.page":
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return really(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    result = report(run_of_ten)
    assert result.exit_code == 1
    assert "jinja2 is not installed: install the extra monitor" in result.output


def entries(picks: list[int], flags: dict[int, str]) -> list[Entry]:
    return [
        Entry(i, f"m{i}", f"m{i}", 0.0, 9, 9, 1.0, n, n, 0.1, None, 0.5, (flags[i],) if i in flags else (), ())
        for i, n in enumerate(picks)
    ]


@given(st.lists(st.integers(0, 50), max_size=40), st.dictionaries(st.integers(0, 40), st.sampled_from("ab")))
def test_the_gallery_shows_each_micrograph_once_and_the_best_are_better_than_the_worst(
    picks: list[int], flags: dict[int, str]
) -> None:
    groups = {group.title: group.entries for group in gallery.choose(entries(picks, flags))}
    shown = [entry.id for group in groups.values() for entry in group]
    assert len(shown) == len(set(shown))
    assert bool(shown) == bool(picks)
    order = [entry.picks for name in ("Best", "Middle") for entry in groups.get(name, [])]
    order += [entry.picks for entry in reversed(groups.get("Worst", []))]
    assert order == sorted(order, reverse=True)


def test_where_all_are_flagged_the_gallery_still_has_a_best_and_a_worst() -> None:
    found = gallery.choose(entries([5, 90, 40, 7], dict.fromkeys(range(4), "a")))
    groups = {group.title: [entry.picks for entry in group.entries] for group in found}
    assert (groups["Best"], groups["Worst"][0]) == ([90, 40], 5)
    assert found[0].note.endswith("all have flags")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_lie_between_the_ends(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value in found)


@given(st.floats(0, 1e3), st.floats(1, 1e4))
def test_ticks_of_what_is_counted_are_whole(low: float, width: float) -> None:
    found = ticks(low, low + width, whole=True)
    assert 1 <= len(found) <= 6
    assert all(value == int(value) for value in found)


@given(st.text(), st.text())
def test_an_element_holds_what_it_is_given_as_text(name: str, text: str) -> None:
    page = Page(str(element("p", text, title=name)).encode("utf-8", "replace"))
    assert [tag for tag, _ in page.elements] == ["p"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h"), (86399.9, "1 d 0 h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(289792, "290,000"), (2586.4, "2,590"), (518.2, "518"), (7.4, "7"), (None, "not known")]
)
def test_rates_have_three_figures(value: float | None, text: str) -> None:
    assert facts.rate(value) == text
