"""Viewers are told what is new, at once, and the folder is read once for all of them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from gtpick_rt.following.history import History
from gtpick_rt.monitor.app import make_app

HOSTILE = ("<script>alert(1)</script>", "a\nb\r\n\r\nevent: status\r\ndata: {}\r\n\r\nc", "\u2028", "\x1b]0;x\x07")


class Viewer:
    """Reads events in a thread of its own, until it is closed."""

    def __init__(self, address: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.lines: list[str] = []
        self._client = httpx.Client(timeout=20)
        self._stream = self._client.stream("GET", f"{address}/api/events")
        self.answer = self._stream.__enter__()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        name = ""
        try:
            for line in self.answer.iter_lines():
                self.lines.append(line)
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    self.events.append((name, json.loads(value)))
        except httpx.HTTPError:
            pass

    def told(self, event: str) -> list[Any]:
        """All data of these events so far."""
        return [data for name, data in self.events if name == event]


@pytest.fixture
def view(run: Any, served: Callable[..., Any], until: Callable[..., None]) -> Iterator[Callable[[], Viewer]]:
    """A function that lets one more look at `run`."""
    with ExitStack() as stack:
        address = stack.enter_context(served(make_app(run.out)))

        def more() -> Viewer:
            viewer = Viewer(address)
            until(lambda: bool(viewer.told("status")) and viewer.told("status")[-1]["done"] >= 3)
            return viewer

        yield more


def test_a_viewer_is_told_the_status_first_and_then_each_new_micrograph(
    view: Callable[[], Viewer], run: Any, until: Callable[..., None]
) -> None:
    viewer = view()
    assert viewer.answer.headers["content-type"].startswith("text/event-stream")
    assert viewer.answer.headers["cache-control"].startswith("no-store")
    assert viewer.told("picked") == []
    run.picked("d", picks=8, backlog=5)
    until(lambda: bool(viewer.told("picked")))
    (row,) = viewer.told("picked")
    assert (row["id"], row["name"], row["picks"]) == (4, "in/d.mrc", 8)
    until(lambda: viewer.told("status")[-1]["done"] == 4)
    assert viewer.told("status")[-1]["backlog"] == 5


def test_a_status_that_stays_is_not_told_again(view: Callable[[], Viewer]) -> None:
    viewer = view()
    told = len(viewer.told("status"))
    time.sleep(0.5)  # in which it could be told ten times
    assert len(viewer.told("status")) == told


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_cannot_break_out_of_its_event(
    view: Callable[[], Viewer], run: Any, until: Callable[..., None], name: str
) -> None:
    viewer = view()
    run.picked("d", name=name, warnings=[name], flags=[name])
    until(lambda: bool(viewer.told("picked")))
    until(lambda: viewer.told("status")[-1]["done"] == 4)
    assert [row["name"] for row in viewer.told("picked")] == [name]
    assert all(status.get("done") for status in viewer.told("status")[1:])
    assert all(line.isascii() and line.isprintable() for line in viewer.lines)


def test_a_burst_brings_no_more_than_the_last_24(
    view: Callable[[], Viewer], run: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = view()
    log = run.out / ".gtpick" / "log.jsonl"
    before = log.read_bytes()
    for n in range(100):
        run.picked(f"n{n}")
    burst = log.read_bytes()
    viewer.events.clear()
    log.unlink()
    until(lambda: bool(viewer.told("status")) and viewer.told("status")[-1]["done"] == 0)
    log.write_bytes(before)
    until(lambda: viewer.told("status")[-1]["done"] == 3)
    viewer.events.clear()
    with log.open("ab") as file:
        file.write(burst.removeprefix(before))
    until(lambda: viewer.told("status") and viewer.told("status")[-1]["done"] == 103)
    names = [row["name"] for row in viewer.told("picked")]
    assert names[-24:] == [f"in/n{n}.mrc" for n in range(76, 100)]
    assert len(names) <= 48  # what is being written may be read in two parts


def test_many_viewers_are_told_alike_and_the_folder_is_read_once_for_all(
    view: Callable[[], Viewer], run: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: set[int] = set()
    reading = threading.Semaphore(1)
    overlapped: list[bool] = []
    really = History.read

    def read(history: History) -> Any:
        alone = reading.acquire(blocking=False)
        overlapped.extend([] if alone else [True])
        readers.add(id(history))
        try:
            return really(history)
        finally:
            if alone:
                reading.release()

    monkeypatch.setattr(History, "read", read)
    viewers = [view() for _ in range(10)]
    for n in range(5):
        run.picked(f"n{n}")
    until(lambda: all(len(viewer.told("picked")) == 5 for viewer in viewers))
    assert len(readers) == 1
    assert not overlapped
    assert all(viewer.told("picked") == viewers[0].told("picked") for viewer in viewers)


def test_who_comes_later_is_not_told_of_the_past(
    view: Callable[[], Viewer], run: Any, until: Callable[..., None]
) -> None:
    first = view()
    run.picked("d")
    until(lambda: bool(first.told("picked")))
    second = view()
    run.picked("e")
    until(lambda: len(second.told("picked")) == 1 and len(first.told("picked")) == 2)
    assert second.told("picked")[0]["name"] == "in/e.mrc"


def test_a_head_request_ends(run: Any, served: Callable[..., Any]) -> None:
    with served(make_app(run.out)) as address:
        assert httpx.head(f"{address}/api/events", timeout=20).status_code == 200
