"""The pictures of the monitor and of the report are of one state of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import monitor_screenshots


def test_all_pictures_are_taken_when_the_run_is_seen_to_have_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    happened: list[str] = []
    states = iter(["running", "running", "finished"])

    @contextmanager
    def running(*_: Any) -> Iterator[str]:
        happened.append("begun")
        yield "http://127.0.0.1/"
        happened.append("ended")

    def status_at(url: str) -> dict[str, Any]:
        happened.append(state := next(states, "finished"))
        return {"done": monitor_screenshots.MICROGRAPHS, "state": state, "picks": 7}

    stubs = {"running": running, "monitor": running, "status_at": status_at, "bring": lambda *_, **__: None}
    stubs |= {"simulate": lambda folder: [], "photograph": lambda *_, **__: b"", "photograph_report": lambda _: b""}
    for name, stub in stubs.items():
        monkeypatch.setattr(monitor_screenshots, name, stub)
    monkeypatch.setattr(monitor_screenshots, "save", lambda picture, path: happened.append(path.name))
    monkeypatch.setattr(monitor_screenshots.time, "sleep", lambda _: None)
    shown = monitor_screenshots.take(tmp_path)
    first = happened.index(monitor_screenshots.PICTURES[0])
    assert happened[:first] == ["begun", "begun", "running", "ended", "running", "finished"]
    assert {each["picks"] for each in shown.values()} == {7}
