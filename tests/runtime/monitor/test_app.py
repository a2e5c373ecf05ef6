"""What the monitor answers."""

import hashlib
import html
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from gtpick_rt.monitor import figures
from gtpick_rt.monitor.app import make_app
from gtpick_rt.output.layout import detections_path, preview_path, retry_folder
from gtpick_rt.output.summary import Outcome
from gtpick_rt.types import Picks

POST = {"X-Gtpick": "1", "Origin": "http://127.0.0.1:8470"}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "a\nb\r\n\r\nc", "\x1b]0;x\x07")


def ids(answer: Any) -> list[int]:
    return [row["id"] for row in answer.json()["micrographs"]]


def test_the_status_is_that_of_the_run(client: TestClient, run: Any) -> None:
    status = client.get("/api/status").json()
    assert (status["done"], status["failed"], status["picks"], status["state"]) == (3, 1, 9, "finished")
    assert (status["threshold"], status["floor"], status["diameter_A"]) == (0.5, 0.05, 100.0)
    assert status["flags"] == {"ice": 1}


def test_the_status_tells_of_an_adaptation(run: Any, adapted: Outcome) -> None:
    run.summary(adaptation=adapted)
    client = TestClient(make_app(run.out), base_url="http://127.0.0.1:8470")
    told = client.get("/api/status").json()["adaptation"]
    assert told["told"] == "Adapted: learned from 3 micrographs"
    assert told["changes"][1] == {"name": "b.mrc", "picks": [0, 12], "median_score": [None, 0.9]}


def test_all_is_known_before_the_first_answer(run: Any) -> None:
    client = TestClient(make_app(run.out), base_url="http://127.0.0.1:8470")  # nothing follows the folder yet
    assert client.get("/api/status").json()["done"] == 3


def test_micrographs_come_newest_first_and_in_pages(client: TestClient) -> None:
    assert ids(client.get("/api/micrographs")) == [3, 1, 0]
    assert ids(client.get("/api/micrographs?limit=2")) == [3, 1]
    older = client.get("/api/micrographs?before=1&limit=2")
    assert ids(older) == [0]
    assert older.json()["total"] == 3


def test_a_row_has_no_path_to_ask_for(client: TestClient) -> None:
    row = client.get("/api/micrographs").json()["micrographs"][1]
    names = "id name time picks detections flags seconds lag_s warnings pixel_size_A width height median_score"
    assert set(row) == set(names.split())
    assert (row["name"], row["flags"], row["warnings"]) == ("in/b.mrc", ["ice"], ["odd"])


def test_flagged_and_unusual_ones_can_be_had_alone(client: TestClient) -> None:
    assert ids(client.get("/api/micrographs?flag=ice")) == [1]
    assert client.get("/api/micrographs?flag=ice").json()["total"] == 1
    assert ids(client.get("/api/micrographs?flag=empty")) == []
    assert ids(client.get("/api/micrographs?outliers=1")) == [1]


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "before=", "before=1e3", "limit=" + "9" * 5000, "before=٣"])
def test_a_number_that_is_none_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/micrographs?{query}").status_code == 400


def test_no_page_is_longer_than_200(told: Any, ask: Callable[..., TestClient]) -> None:
    for n in range(210):
        told.picked(f"m{n}")
    client = ask(told.out, known=210)
    assert len(ids(client.get("/api/micrographs?limit=999999"))) == 200
    assert len(ids(client.get("/api/micrographs"))) == 24


def test_picks_are_shares_of_the_picture_with_the_first_row_at_the_top(client: TestClient) -> None:
    found = client.get("/api/micrographs/0").json()
    assert found["score"] == [0.9, 0.7, 0.5, 0.2, 0.1]
    assert found["xy"][0] == pytest.approx([60.5 / 300, 30.5 / 200], abs=1e-5)
    assert found["xy"][2] == pytest.approx([0.5, 0.5], abs=2e-3)
    assert found["diameter"] == pytest.approx(100 / 2 / 300)
    assert (found["threshold"], found["name"]) == (0.5, "in/a.mrc")


def test_a_micrograph_without_detections_is_named_as_such(client: TestClient, run: Any) -> None:
    detections_path(run.out, PurePosixPath("b")).write_bytes(b"no archive")
    answer = client.get("/api/micrographs/1")
    assert answer.status_code == 404
    assert "damaged" in answer.text


def test_particles_are_listed_and_their_pictures_sent(client: TestClient, run: Any) -> None:
    assert client.get("/api/particles").json()["groups"] == []  # there is no picture of any micrograph yet
    assert client.get("/api/particles/0.jpg").status_code == 404
    picture = BytesIO()
    Image.new("L", (300, 200), 100).save(picture, "JPEG")
    preview_path(run.out, PurePosixPath("b")).write_bytes(picture.getvalue())
    fresh = TestClient(make_app(run.out), base_url="http://127.0.0.1:8470")
    found = fresh.get("/api/particles").json()
    assert [(group["title"], group["count"]) for group in found["groups"]] == [("Best", 1), ("At the threshold", 1)]
    assert set(found["groups"][0]) == {"title", "count", "low", "high", "profile"}
    answer = fresh.get("/api/particles/1.jpg")
    assert Image.open(BytesIO(answer.content)).size == (672, 96)
    assert fresh.get("/api/particles/1.jpg", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert fresh.get("/api/particles/2.jpg").status_code == 404


def test_a_preview_is_sent_once_and_again_when_it_is_another(
    client: TestClient, run: Any, until: Callable[..., None]
) -> None:
    first = client.get("/api/micrographs/0/preview.jpg")
    assert (first.content[:2], first.headers["content-type"]) == (b"\xff\xd8", "image/jpeg")
    tag = {"If-None-Match": first.headers["etag"]}
    assert client.get("/api/micrographs/0/preview.jpg", headers=tag).status_code == 304
    assert first.headers["cache-control"] == "private, no-cache"
    assert "immutable" in client.get("/api/micrographs/0/preview.jpg?t=1").headers["cache-control"]
    preview_path(run.out, PurePosixPath("a")).write_bytes(b"\xff\xd8 another")
    run.picked("a", picks=4)
    until(lambda: client.get("/api/status").json()["picks"] == 10)
    assert client.get("/api/micrographs/0/preview.jpg", headers=tag).content == b"\xff\xd8 another"


def test_where_there_is_no_preview_there_is_a_grey_one(client: TestClient) -> None:
    answer = client.get("/api/micrographs/1/preview.jpg")
    picture = Image.open(BytesIO(answer.content))
    assert picture.size == (256, 171)
    assert np.ptp(np.asarray(picture)) == 0
    assert answer.headers["cache-control"] == "no-store"


def test_trends_and_histograms_are_those_of_the_micrographs(client: TestClient) -> None:
    trends = client.get("/api/trends").json()
    assert (trends["first_id"], trends["picks_median"], trends["flags"]) == ([0, 1, 3], [3, 3, 3], {"ice": [0, 1, 0]})
    histograms = client.get("/api/histograms").json()
    assert (histograms["micrographs"], histograms["of"], histograms["threshold"]) == (3, 3, 0.5)
    assert sum(histograms["score"]["counts"]) == 15
    assert sum(histograms["diameter_A"]["counts"]) == 9


def test_charts_follow_the_run_but_are_not_worked_out_for_each_viewer(
    run: Any, ask: Callable[..., TestClient], until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    trends = figures.charts.trends
    monkeypatch.setattr(figures.charts, "trends", lambda entries: made.append(len(entries)) or trends(entries))
    client = ask(run.out, known=4)
    for _ in range(3):
        client.get("/api/trends")
    run.picked("d")
    until(lambda: client.get("/api/status").json()["done"] == 4)
    assert client.get("/api/trends").json()["micrographs"] == 3
    assert made == [3]
    monkeypatch.setattr(figures.time, "monotonic", lambda: 1e12)
    assert client.get("/api/trends").json()["micrographs"] == 4


def test_a_failure_is_listed_and_can_be_asked_for_again(
    client: TestClient, run: Any, until: Callable[..., None]
) -> None:
    (failure,) = client.get("/api/failures").json()["failures"]
    assert (failure["id"], failure["name"], failure["kind"]) == (2, "in/bad.mrc", "FormatError")
    assert (failure["message"], failure["retry_asked"]) == ("in/bad.mrc: no image", False)
    assert client.post("/api/failures/2/retry", headers=POST).status_code == 202
    (request,) = retry_folder(run.out).iterdir()
    assert (request.name, request.read_text()) == (hashlib.sha256(b"bad").hexdigest(), "bad")
    assert client.get("/api/failures").json()["failures"][0]["retry_asked"] is True
    run.now += 5
    run.failed("bad")
    until(lambda: client.get("/api/failures").json()["failures"][0]["retry_asked"] is False)


@pytest.mark.parametrize("number", ["0", "99", "x", "-1", "9" * 5000])
def test_only_a_failure_can_be_asked_for_again(client: TestClient, run: Any, number: str) -> None:
    assert client.post(f"/api/failures/{number}/retry", headers=POST).status_code == 404
    assert not retry_folder(run.out).exists()


def test_of_many_failures_the_last_are_listed_and_all_are_counted(told: Any, ask: Callable[..., TestClient]) -> None:
    for number in range(201):
        told.failed(f"bad{number}")
    answer = ask(told.out, known=201).get("/api/failures").json()
    assert [each["id"] for each in answer["failures"]] == list(range(1, 201))
    assert answer["total"] == 201


def test_a_request_that_cannot_be_written_is_told(
    told: Any, ask: Callable[..., TestClient], until: Callable[..., None]
) -> None:
    told.failed("bad")
    told.line(state="failed", stem="\udcff", path="x", kind="x", message="x")  # as an older version did
    client = ask(told.out, known=2)
    assert client.post("/api/failures/1/retry", headers=POST).status_code == 409
    retry_folder(told.out).write_text("in the way")
    assert client.post("/api/failures/0/retry", headers=POST).status_code == 409
    assert client.get("/api/failures").json()["failures"][0]["retry_asked"] is False


def test_prometheus_can_read_the_figures(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["gtpick_output_micrographs", "picked"] == 3
    assert samples["gtpick_output_micrographs", "failed"] == 1
    assert samples["gtpick_output_particles",] == 9
    assert samples["gtpick_backlog",] == 0
    assert samples["gtpick_lag_recent_seconds", "0.5"] == 1.5
    assert samples["gtpick_last_done_timestamp",] == pytest.approx(1.8e9, abs=1e9)
    assert [key[1] for key, value in samples.items() if key[0] == "gtpick_run_state" and value] == ["finished"]


@pytest.mark.parametrize("name", [*HOSTILE, "worker0", "\ud800"])
def test_the_metrics_tell_what_each_worker_does(told: Any, ask: Callable[..., TestClient], name: str) -> None:
    told.picked("a", worker=name)
    told.now += 60
    told.picked("b", worker=name)
    told.failed("c")
    client = ask(told.out, known=3)
    (worker,) = client.get("/api/status").json()["workers"]
    assert (worker["name"], worker["micrographs"], worker["heard"]) == (name, 2, told.now)
    samples = [
        (sample.name, sample.labels["worker"], sample.value)
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if "worker" in sample.labels
    ]
    shown = name.encode("utf-8", "replace").decode()
    assert samples == [
        ("gtpick_worker_micrographs", shown, 2),
        ("gtpick_worker_micrographs_per_hour", shown, pytest.approx(60)),
        ("gtpick_worker_last_done_timestamp", shown, told.now),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(told: Any, ask: Callable[..., TestClient], detections: Picks, name: str) -> None:
    told.picked("a", detections, name=name, warnings=[name], flags=[name])
    told.failed("b", path=name, message=name, kind=name)
    client = ask(told.out, known=2)
    for path in ("/api/micrographs", "/api/micrographs/0", "/api/failures", "/api/status", "/api/trends"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content.isascii()
        assert not re.search(rb"[\x00-\x1f]", answer.content)
    assert client.get("/api/micrographs").json()["micrographs"][0]["name"] == name
    assert client.get("/api/failures").json()["failures"][0]["message"] == name
    assert client.get("/metrics").text.count("\n") == clean_count(ask, told)
    assert name not in client.get("/metrics").text


def clean_count(ask: Callable[..., TestClient], told: Any) -> int:
    """Lines of the metrics of a folder like it, with a name as names are."""
    other = type(told)(told.out.parent / "other", told.record_of)
    other.picked("a")
    other.failed("b")
    return int(ask(other.out, known=2).get("/metrics").text.count("\n"))


@pytest.mark.parametrize("name", ["<b>&amp;<|b>", "{{1234*4321}}", "{% raw %}"])
def test_the_name_of_the_folder_is_text_on_the_page(tmp_path: Path, ask: Callable[..., TestClient], name: str) -> None:
    page = ask(tmp_path / name).get("/").text
    assert html.escape(name) in page
    assert "<b>" not in page
    assert str(1234 * 4321) not in page


def test_the_page_has_no_script_or_style_of_its_own_inside(client: TestClient) -> None:
    page = client.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert "<style" not in page
    assert not re.search(r"\s(style|on\w+)\s*=", page)
    assert not re.search(r"(src|href)=\"(https?:)?//", page)


def test_all_that_the_page_links_to_is_served(client: TestClient) -> None:
    links = re.findall(r"(?:src|href)=\"(/[^\"]*)\"", client.get("/").text)
    assert links
    for link in links:
        answer = client.get(link)
        assert answer.status_code == 200
        tag = {"If-None-Match": answer.headers["etag"]}
        assert client.get(link, headers=tag).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        *("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/../app.py", "/static//etc/passwd", "/static/a%00b"),
        *("/static/", "/static", "/static/templates/index.html", "/static/app.py", "/static/%5c..%5capp.py"),
        *("/api/micrographs/..%2f..%2foutside/preview.jpg", "/api/micrographs/0%00/preview.jpg"),
        *("/api/micrographs/%2fetc%2fpasswd", "/api/micrographs/a/preview.jpg", "/api/micrographs/99/preview.jpg"),
        *("/api/micrographs/-1", "/api/micrographs/99", "/api/micrographs/٣", "/api/micrographs/" + "9" * 5000),
        *("/.gtpick/log.jsonl", "/summary.json", "//etc/passwd", "/api", "/%2e%2e/%2e%2e/etc/passwd"),
    ],
)
def test_there_is_nothing_but_what_is_listed(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_link_out_of_the_folder_is_not_followed(client: TestClient, run: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    preview_path(run.out, PurePosixPath("b")).symlink_to(tmp_path / "secret.jpg")
    assert b"secret" not in client.get("/api/micrographs/1/preview.jpg").content
    picks = detections_path(run.out, PurePosixPath("b"))
    picks.rename(tmp_path / "elsewhere.npz")
    picks.symlink_to(tmp_path / "elsewhere.npz")
    assert client.get("/api/micrographs/1").status_code == 404


@pytest.mark.parametrize("made", ["absent", "empty"])
def test_an_empty_folder_or_none_at_all_is_shown_as_such_and_filled_later(
    tmp_path: Path, ask: Callable[..., TestClient], until: Callable[..., None], told: Any, made: str
) -> None:
    out = tmp_path / "later"
    if made == "empty":
        out.mkdir()
    client = ask(out)
    assert client.get("/").status_code == 200
    assert client.get("/api/status").json()["state"] == "waiting"
    assert client.get("/api/micrographs").json() == {"micrographs": [], "total": 0}
    assert client.get("/api/trends").json()["micrographs"] == 0
    assert client.get("/api/histograms").json()["micrographs"] == 0
    assert client.get("/api/failures").json() == {"failures": [], "total": 0}
    assert client.get("/metrics").status_code == 200
    assert out.exists() == (made == "empty")
    told.picked("a")
    if made == "empty":
        out.rmdir()
    told.out.rename(out)
    until(lambda: client.get("/api/status").json()["done"] == 1)


def test_nothing_is_written_but_what_is_asked_for(client: TestClient, run: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*")}
    for path in ("/", "/api/status", "/api/micrographs/0", "/api/micrographs/0/preview.jpg", "/api/histograms"):
        client.get(path)
    assert {path: path.stat().st_mtime_ns for path in run.out.rglob("*")} == before


def test_json_is_strict(client: TestClient) -> None:
    json.loads(client.get("/api/histograms").text, parse_constant=lambda name: pytest.fail(name))
