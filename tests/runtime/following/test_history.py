"""A history is what the log tells, whatever becomes of the log, and hinders nobody."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.following import tail as tailing
from gtpick_rt.following.history import History
from gtpick_rt.following.images import detections_of, preview_of
from gtpick_rt.following.records import Entry, read_event
from gtpick_rt.following.tail import Tail
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import detections_path, log_path, preview_path, summary_path
from gtpick_rt.output.rethresholding import rethreshold
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.types import FloatArray, Micrograph, Picks

THREE = Picks(
    np.array([[30, 20], [150, 100], [290, 190]], np.float32),
    np.full(3, 50, np.float32),
    np.array([0.9, 0.6, 0.2], np.float32),
)


def story_of(told: Any) -> History:
    """A history by the clock of what is told, read to the end."""
    history = History(told.out, clock=lambda: told.now)
    history.catch_up()
    return history


def stems(history: History) -> list[str]:
    return [entry.stem for entry in history.entries]


def test_a_real_run_is_told(
    dot_picker: Picker, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path], tmp_path: Path
) -> None:
    path = save_mrc(tmp_path / "a.mrc", dots(np.array([[60, 50], [200, 90]], np.float32), (180, 260)).data)
    jobs = [Job(path, PurePosixPath("sub/a"), "a.mrc", 1.0), Job(tmp_path / "b.mrc", PurePosixPath("b"), "b.mrc", 1.0)]
    out = tmp_path / "out"
    history = History(out)
    assert history.update() == []
    assert history.status().state == "waiting"
    with OutputFolder(out) as output:
        pipeline.run(Listed(jobs, []), dot_picker, output, settings_of(dot_picker))
        history.catch_up()
        assert history.status().state == "running"
    history.catch_up()
    (entry,) = history.entries
    assert (entry.stem, entry.width, entry.height, entry.picks, entry.pixel_size_A) == ("sub/a", 260, 180, 2, 1.0)
    assert entry.median_score == pytest.approx(np.median(detections_of(history.out, entry).score))
    preview = preview_of(history.out, entry)
    assert preview is not None
    assert preview.startswith(b"\xff\xd8")
    assert [(each.stem, each.kind) for each in history.failures] == [("b", "UnreadableError")]
    status = history.status()
    assert (status.state, status.done, status.failed, status.picks, status.backlog) == ("finished", 1, 1, 2, 0)
    assert (status.diameter_A, status.threshold, status.model) == (48.0, 0.4, "test-model 1")
    assert set(status.stage_seconds) == {"read", "preprocess", "infer", "decode", "write"}
    assert status.lag_p50_s is None  # of a batch


def test_new_thresholds_are_told(
    dot_picker: Picker, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path], tmp_path: Path
) -> None:
    path = save_mrc(tmp_path / "a.mrc", dots(np.array([[60, 50], [200, 90]], np.float32), (180, 260)).data)
    out = tmp_path / "out"
    with OutputFolder(out) as output:
        job = Job(path, PurePosixPath("a"), "a.mrc", 1.0)
        pipeline.run(Listed([job], []), dot_picker, output, settings_of(dot_picker))
    history = History(out)
    history.catch_up()
    assert history.entries[0].picks == 2
    with OutputFolder(out) as output:
        rethreshold(output, 0.99)
    history.catch_up()
    assert (history.entries[0].picks, history.entries[0].median_score, history.picks) == (0, None, 0)
    status = history.status()
    assert (status.threshold, status.picks_per_micrograph, status.picks_per_hour) == (0.99, 0, 0)


def test_a_micrograph_that_is_picked_again_keeps_its_id_and_place(told: Any) -> None:
    for stem in "abc":
        told.picked(stem, picks=1, flags=["ice"])
    history = story_of(told)
    told.failed("b")
    history.catch_up()
    assert stems(history) == ["a", "c"]
    assert [(each.stem, each.id) for each in history.failures] == [("b", 1)]
    assert history.status().flags == {"ice": 2}
    told.picked("b", picks=7)
    (again,) = history.update()
    assert (again.stem, again.id, history.entry(1)) == ("b", 1, again)
    assert stems(history) == ["a", "b", "c"]
    assert history.failures == []
    assert history.picks == 9


def test_one_that_fails_first_and_is_picked_later_stands_where_it_came_in(told: Any) -> None:
    told.failed("a")
    told.picked("b")
    told.picked("a")
    history = story_of(told)
    assert [(entry.stem, entry.id) for entry in history.entries] == [("a", 0), ("b", 1)]
    assert history.entry(2) is None
    assert history.failure(0) is None


def test_only_what_is_new_is_given(told: Any) -> None:
    told.picked("a")
    history = History(told.out)
    history.catch_up()
    assert history.update() == []
    told.picked("b")
    assert [entry.stem for entry in history.update()] == ["b"]


def test_a_torn_line_is_waited_for(told: Any) -> None:
    told.picked("a")
    whole = log_path(told.out).read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        log_path(told.out).write_bytes(whole[:cut])
        history = story_of(told)
        assert stems(history) == []
        with log_path(told.out).open("ab") as log:
            log.write(whole[cut:])
        assert [entry.stem for entry in history.update()] == ["a"]


def test_a_line_that_a_crash_has_torn_does_not_take_the_next_one_with_it(told: Any) -> None:
    told.picked("a")
    log = log_path(told.out)
    log.write_bytes(log.read_bytes()[:-100])
    told.picked("b")
    told.picked("c")
    assert stems(story_of(told)) == ["b", "c"]


def test_a_log_that_is_removed_or_replaced_is_read_anew(told: Any) -> None:
    for stem in "abc":
        told.picked(stem)
    history = story_of(told)
    log = log_path(told.out)
    log.unlink()
    history.catch_up()
    assert stems(history) == []
    told.picked("c")
    history.catch_up()
    assert [(entry.stem, entry.id) for entry in history.entries] == [("c", 2)]
    log.write_text("\n")  # the same file, but shorter
    history.catch_up()
    told.picked("b")
    history.catch_up()
    assert stems(history) == ["b"]
    shutil.rmtree(told.out)
    history.catch_up()
    assert (stems(history), history.status().state) == ([], "waiting")


def test_a_long_log_is_read_a_bounded_part_at_a_time(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "_MOST_BYTES", 700)
    for n in range(20):
        told.picked(f"m{n}")
    history, most = History(told.out), 0
    history.update()
    while history.behind:
        most = max(most, len(history.update()))
    assert len(history.entries) == 20
    assert most <= 2


GOOD = {"time": "2026-11-23T04:05:16+0000", "state": "picked", "stem": "a", "name": "a", "width": 3, "height": 2}
GOOD |= {"pixel_size_A": 1.5, "picks": 1, "detections": 2, "seconds": 0.5, "flags": ["ice"], "backlog": 1}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DAMAGED = st.one_of(
    st.binary(max_size=80),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda name, value: json.dumps(GOOD | {name: value}).encode(),
        st.sampled_from([*GOOD, "lag_s", "median_score", "warnings", "stage_seconds"]),
        JSON | st.sampled_from([10**400, 1e308, -1, "\ud800", "\x00", "../../x"]),
    ),
    st.builds(
        lambda state, value: json.dumps({"time": GOOD["time"], "state": state, "settings": value}).encode(),
        st.sampled_from(["begun", "failed", "rethresholded", "again", "gone"]),
        JSON,
    ),
)


@given(st.lists(DAMAGED, max_size=6))
def test_lines_that_are_none_of_ours_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    out = tmp_path_factory.mktemp("history")
    log_path(out).parent.mkdir()
    marker = json.dumps(GOOD | {"stem": "good at the end"}).encode()
    log_path(out).write_bytes(b"\n".join([*lines, marker, b""]))
    history = History(out)
    history.catch_up()
    assert "good at the end" in stems(history)
    json.dumps([asdict(history.status()), [each.message for each in history.failures]], allow_nan=False)


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[" * 5000, b'{"time": "x"}', b'{"time": "2026-11-23T04:05:16+0000"}', b'{"state": 1}']
)
def test_what_is_no_line_of_the_log_is_no_event(line: bytes) -> None:
    assert read_event(line) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"parameters": 3, "model": [], "backlog": "x"}'])
def test_a_summary_that_is_none_of_ours_says_nothing(told: Any, content: bytes) -> None:
    told.picked("a")
    summary_path(told.out).write_bytes(content)
    status = story_of(told).status()
    assert (status.threshold, status.model, status.backlog) == (None, None, 0)


def test_a_named_pipe_is_not_waited_for(told: Any) -> None:
    told.picked("a", THREE)
    preview_path(told.out, PurePosixPath("a")).parent.mkdir()
    for path in (log_path(told.out), summary_path(told.out), preview_path(told.out, PurePosixPath("a"))):
        history = story_of(told)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        history.catch_up()
        assert all(preview_of(history.out, entry) is None for entry in history.entries)


def test_a_device_is_not_read_for_ever(told: Any) -> None:
    log_path(told.out).symlink_to("/dev/zero")
    summary_path(told.out).symlink_to("/dev/zero")
    assert stems(story_of(told)) == []


def test_the_summary_says_what_the_log_does_not(told: Any) -> None:
    told.begun(threshold=0.25)
    history = story_of(told)
    assert (history.status().threshold, history.status().model, history.status().backend) == (0.25, "nano 2", "cpu")
    told.summary(threshold=0.5)
    history.catch_up()
    status = history.status()
    assert (status.threshold, status.floor, status.model, status.diameter_A) == (0.5, 0.05, "nano 2", 100.0)
    assert status.version is not None


def test_a_new_run_forgets_failures_and_picks_that_were_made_otherwise(told: Any) -> None:
    told.begun()
    told.picked("a")
    told.failed("b")
    told.begun(threshold=0.7)
    history = story_of(told)
    assert (stems(history), history.failures) == (["a"], [])
    told.begun(diameter_A=200.0)
    history.catch_up()
    assert stems(history) == []
    told.picked("c")
    history.catch_up()
    assert [(entry.stem, entry.id) for entry in history.entries] == [("c", 2)]


@pytest.mark.parametrize("stem", ["../../outside", "/outside", "link/outside", "direct", "a\x00b", "\ud800"])
def test_nothing_outside_the_folder_is_read(told: Any, tmp_path: Path, stem: str) -> None:
    for suffix in ("npz", "jpg"):
        (tmp_path / f"outside.{suffix}").write_bytes(b"secret")
    for place in (detections_path, preview_path):
        folder = place(told.out, PurePosixPath("x")).parent
        folder.mkdir()
        (folder / "link").symlink_to(tmp_path)
        (folder / f"direct{place(told.out, PurePosixPath('x')).suffix}").symlink_to(tmp_path / "outside.jpg")
    told.picked(stem.replace("/outside", f"{tmp_path}/outside") if stem[0] == "/" else stem)
    history = story_of(told)
    (entry,) = history.entries
    assert preview_of(history.out, entry) is None
    with pytest.raises(UsageError, match="no detections are kept"):
        detections_of(history.out, entry)


def test_damaged_detections_are_refused_in_words(told: Any) -> None:
    told.picked("a", THREE)
    history = story_of(told)
    assert len(detections_of(history.out, history.entries[0])) == 3
    path = detections_path(told.out, PurePosixPath("a"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UsageError, match="damaged"):
        detections_of(history.out, history.entries[0])


def test_following_writes_nothing(told: Any) -> None:
    told.begun()
    told.picked("a", THREE)
    told.summary()
    before = {path: path.stat().st_mtime_ns for path in told.out.rglob("*")}
    history = story_of(told)
    detections_of(history.out, history.entries[0])
    preview_of(history.out, history.entries[0])
    history.status()
    assert {path: path.stat().st_mtime_ns for path in told.out.rglob("*")} == before


def test_an_absent_log_is_looked_for_again(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert tail.read() == (False, [])
    (tmp_path / "log").write_bytes(b"a\nb")
    assert tail.read() == (False, [])
    assert tail.behind
    assert tail.read() == (False, [b"a"])
    assert not tail.behind
    (tmp_path / "log").unlink()
    assert tail.read() == (True, [])


def test_entries_are_small_enough_for_many(told: Any) -> None:
    told.picked("a")
    (entry,) = story_of(told).entries
    assert not hasattr(entry, "__dict__")
    assert isinstance(entry, Entry)
