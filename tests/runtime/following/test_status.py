"""Whether a run goes on, has nothing to do or is stuck is seen from outside, and how fast it is."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.following.history import History
from gtpick_rt.output import holders
from gtpick_rt.output.holders import lives
from gtpick_rt.output.layout import lock_path, summary_path
from gtpick_rt.output.lock import lock_folder
from gtpick_rt.output.summary import Outcome


def story_of(told: Any) -> History:
    """A history by the clock of what is told, read to the end."""
    history = History(told.out, clock=lambda: told.now)
    history.catch_up()
    return history


@pytest.fixture
def held(told: Any) -> Iterator[None]:
    """A process, this one, that holds the folder."""
    lock = lock_folder(lock_path(told.out))
    yield
    lock.release()


@pytest.mark.parametrize(
    "damage",
    [
        [],
        {"message": 3},
        {"changes": 3},
        {"changes": [{"name": "a"}]},
        {"changes": [{"name": "a", "picks": [1], "median_score": [0.5, 0.5]}]},
        {"changes": [{"name": "a", "picks": [1, -1], "median_score": [0.5, 0.5]}]},
        {"changes": [{"name": "a", "picks": [1, 1], "median_score": [0.5, float("nan")]}]},
        {"changes": [{"name": 7, "picks": [1, 1], "median_score": [0.5, 0.5]}]},
    ],
)
def test_an_adaptation_is_told_unless_it_is_damaged(told: Any, adapted: Outcome, damage: Any) -> None:
    told.begun()
    told.picked("a")
    told.summary(adaptation=adapted)
    assert story_of(told).status().adaptation == adapted
    path = summary_path(told.out)
    summary = json.loads(path.read_text())
    summary["adaptation"] = {**summary["adaptation"], **damage} if isinstance(damage, dict) else damage
    path.write_text(json.dumps(summary, indent=1))
    assert story_of(told).status().adaptation is None
    assert story_of(told).status().done == 1


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("end", ["adapted", "not adapted", "begun"])
def test_while_the_network_adapts_itself_the_run_goes_on_and_it_is_told_to_how_many(told: Any, end: str) -> None:
    told.picked("a")
    told.summary()
    os.utime(summary_path(told.out), (told.now, told.now))
    told.line(state="adapting", micrographs=12)
    history = story_of(told)
    told.now += 600
    assert (history.status().state, history.status().learning_from) == ("running", 12)
    told.line(state=end)
    history.catch_up()
    assert history.status().learning_from is None


@pytest.mark.parametrize("micrographs", [12, "many", None])
def test_a_run_that_was_killed_or_says_nonsense_adapts_to_nothing(told: Any, micrographs: object) -> None:
    told.line(state="adapting", micrographs=micrographs)
    assert story_of(told).status().learning_from is None


@pytest.mark.usefixtures("held")
def test_a_run_with_nothing_to_do_is_idle_after_a_minute(told: Any) -> None:
    told.begun()
    told.picked("a")
    history = story_of(told)
    for later_s, state in ((59, "running"), (2, "idle"), (3600, "idle")):
        told.now += later_s
        told.summary()
        history.catch_up()
        assert history.status().state == state


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("seconds", "patience_s"), [(0.5, 60), (10.0, 200)])
def test_a_run_that_does_nothing_of_what_is_to_do_is_stalled(told: Any, seconds: float, patience_s: float) -> None:
    told.picked("a", seconds=seconds, backlog=3)
    history = story_of(told)
    told.now += patience_s - 1
    assert history.status().state == "running"
    told.now += 2
    assert history.status().state == "stalled"
    told.picked("b", seconds=seconds, backlog=2)
    history.catch_up()
    assert history.status().state == "running"


@pytest.mark.usefixtures("held")
def test_one_that_was_idle_has_its_time_once_something_comes(told: Any) -> None:
    told.picked("a")
    history = story_of(told)
    told.now += 5000
    told.summary(backlog=1)
    history.catch_up()
    assert (history.status().state, history.status().backlog) == ("running", 1)
    told.now += 61
    assert history.status().state == "stalled"


@pytest.mark.usefixtures("held")
def test_a_run_that_writes_nothing_at_all_is_stalled(told: Any) -> None:
    told.picked("a")
    told.summary()
    os.utime(summary_path(told.out), (told.now, told.now))
    history = story_of(told)
    told.now += 301
    assert history.status().state == "stalled"


def test_a_run_that_ended_before_its_work_is_not_finished(told: Any) -> None:
    told.picked("a", backlog=2)
    assert story_of(told).status().state == "no process"
    told.picked("b", backlog=0)
    assert story_of(told).status().state == "finished"


def test_a_folder_without_a_run_waits_for_one(told: Any) -> None:
    assert story_of(told).status().state == "waiting"
    told.begun()
    assert story_of(told).status().state == "no process"


def test_whether_a_process_holds_the_folder_is_seen_without_touching_its_lock(told: Any) -> None:
    path = lock_path(told.out)
    assert lives(path) is False
    lock = lock_folder(path)
    assert lives(path) is True
    lock.release()
    assert lives(path) is False
    path.write_text(f"process 999999999 on {socket.gethostname()}\n")
    assert lives(path) is False
    path.write_text("process 1 on elsewhere\n")
    assert lives(path) is None
    path.write_text(f"process 1 on {socket.gethostname()}\n")
    assert lives(path) is True


@pytest.mark.parametrize(
    ("part", "alive"),
    [(1, False), (2, None), (3, False)],
    ids=["the machine has started anew", "a container has numbers of its own", "the number is another's now"],
)
def test_a_process_that_was_killed_does_not_live_on_in_another_of_its_number(
    told: Any, part: int, alive: bool | None
) -> None:
    path = lock_path(told.out)
    lock = lock_folder(path)
    first, born, *rest = path.read_text().split("\n")
    lock.release()
    words = born.split(" ")
    for word, found in (("another", alive), ("-", True)):
        path.write_text("\n".join([first, " ".join([*words[:part], word, *words[part + 1 :]]), *rest]))
        assert lives(path) is found
    path.write_text(f"{first}\n0123456789abcdef\n")  # as older versions wrote it
    assert lives(path) is True


@pytest.mark.usefixtures("held")
def test_where_the_system_tells_nothing_of_processes_their_number_counts(
    told: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(holders, "_PROC", tmp_path)
    assert lives(lock_path(told.out)) is True


def test_a_run_on_another_machine_lives_as_long_as_it_writes(told: Any) -> None:
    lock_path(told.out).write_text("process 1 on elsewhere\n")
    told.picked("a", backlog=1)
    told.summary(backlog=1)
    os.utime(summary_path(told.out), (told.now, told.now))
    history = story_of(told)
    assert history.status().state == "running"
    told.now += 301
    assert history.status().state == "no process"
    told.picked("b", backlog=1)
    history.catch_up()
    assert history.status().state == "running"


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("ahead_s", [-7200, -90, 90, 7200])
def test_a_monitor_whose_clock_is_off_tells_what_one_tells_whose_clock_is_right(told: Any, ahead_s: float) -> None:
    def told_by(history: History) -> tuple[object, ...]:
        status = history.status()
        worker = status.workers[0].per_hour
        return status.state, status.files_per_hour, status.picks_per_hour, status.last_event_age_s, worker

    off, right = (History(told.out, clock=lambda s=s: told.now + s) for s in (ahead_s, 0))
    told.begun()
    for n in range(10):
        told.now += 6
        told.picked(f"m{n}", backlog=3, worker="worker0")
        for history in (off, right):
            history.catch_up()
    assert told_by(off) == told_by(right)
    assert told_by(off)[0] == "running"
    assert off.status().files_per_hour == pytest.approx(600)
    told.now += 61
    for history in (off, right):
        history.catch_up()
    assert told_by(off) == told_by(right)
    assert told_by(off)[0] == "stalled"


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("ahead_s", [-7200, -90, 90, 7200])
def test_the_summary_that_a_run_keeps_writing_tells_its_clock_before_any_micrograph_comes(
    told: Any, ahead_s: float
) -> None:
    told.begun()
    told.picked("a", backlog=1)
    told.summary(backlog=1)
    told.now += 45
    off, right = (History(told.out, clock=lambda s=s: told.now + s) for s in (ahead_s, 0))
    for _ in range(2):
        for history in (off, right):
            history.catch_up()
        told.now += 5
        told.summary(backlog=1)
        for history in (off, right):
            history.catch_up()
    assert (off.status().state, off.status().last_event_age_s) == ("running", 55)
    assert off.status() == right.status()


def test_a_summary_without_the_time_of_its_writing_tells_no_clock(told: Any) -> None:
    history = story_of(told)
    for written in (None, "yesterday", 7, "2026-13-01T00:00:00+0000"):
        told.picked("a")
        told.summary()
        path = summary_path(told.out)
        path.write_text(json.dumps({**json.loads(path.read_text()), "written": written}))
        history.catch_up()
        assert history.status().last_event_age_s == 0


def test_lines_that_were_not_read_as_they_came_do_not_tell_what_time_it_is(told: Any) -> None:
    told.picked("a")
    told.now += 3600
    history = story_of(told)
    assert history.status().last_event_age_s == 3600
    told.picked("b")
    told.now += 3600  # of which this machine slept through all
    history.catch_up()
    assert history.status().last_event_age_s == 3600


@pytest.mark.usefixtures("held")
def test_while_a_run_goes_on_its_rates_are_of_the_last_hour_or_since_it_began(told: Any) -> None:
    told.picked("yesterday", picks=1000)
    told.now += 86400
    told.begun()
    for n in range(10):
        told.now += 60
        told.picked(f"m{n}", picks=20)
    told.failed("bad")
    status = story_of(told).status()
    assert status.files_per_hour == pytest.approx(66)
    assert status.picks_per_hour == pytest.approx(1200)
    for n in range(120):
        told.now += 60
        told.picked(f"n{n}", picks=10)
    assert story_of(told).status().picks_per_hour == pytest.approx(600, rel=0.02)


def test_the_rates_of_what_has_ended_are_of_the_time_it_took_however_long_ago_and_in_how_many_runs(told: Any) -> None:
    begun = told.now
    for run, each_s in enumerate((180, 60)):
        told.begun()
        for n in range(40):
            told.now += each_s
            told.picked(f"m{run}_{n}", picks=20)
        ended = told.now
        told.now += 86400
    status = story_of(told).status()
    average = status.average
    assert (status.state, average.first, average.last) == ("finished", begun, ended)
    assert (average.files, average.seconds) == (80, 40 * 180 + 40 * 60)
    assert (status.files_per_hour, status.picks_per_hour) == (average.files_per_hour, average.picks_per_hour)
    assert average.files_per_hour == pytest.approx(80 / (9600 / 3600))
    assert average.picks_per_hour == pytest.approx(status.picks / (9600 / 3600))


@pytest.mark.usefixtures("held")
def test_the_average_of_a_run_that_waits_for_more_is_what_it_will_be_at_its_end(told: Any) -> None:
    told.begun()
    for n in range(24):
        told.now += 2
        told.picked(f"m{n}")
    average = story_of(told).status().average
    told.now += 50
    status = story_of(told).status()
    assert (status.average, status.average.files_per_hour) == (average, pytest.approx(1800))
    assert status.files_per_hour == pytest.approx(24 / (98 / 3600))


def test_a_run_whose_micrographs_all_failed_has_rates_too(told: Any) -> None:
    assert story_of(told).status().average is None
    told.begun()
    for n in range(3):
        told.now += 10
        told.failed(f"m{n}")
    average = story_of(told).status().average
    assert (average.files_per_hour, average.picks_per_hour) == (pytest.approx(360), 0)


def test_a_rerun_that_finds_nothing_to_do_leaves_the_rates_of_the_run(told: Any) -> None:
    told.begun()
    for n in range(10):
        told.now += 60
        told.picked(f"m{n}", picks=20, worker=f"worker{n % 2}")
    before = story_of(told).status()
    assert before.files_per_hour == pytest.approx(60)
    told.now += 7200
    told.begun()
    told.summary()
    after = story_of(told).status()
    assert after.state == "finished"
    assert (after.files_per_hour, after.picks_per_hour) == (before.files_per_hour, before.picks_per_hour)
    assert after.workers == before.workers


def test_a_rerun_in_which_something_fails_once_more_leaves_them_too(told: Any) -> None:
    told.begun()
    for n in range(10):
        told.now += 60
        told.picked(f"m{n}", picks=20)
    before = story_of(told).status()
    told.now += 7200
    told.begun()
    told.failed("bad")
    told.summary()
    after = story_of(told).status()
    assert after.failed == 1
    assert (after.files_per_hour, after.picks_per_hour) == (before.files_per_hour, before.picks_per_hour)


def test_the_rates_of_a_run_that_has_done_nothing_yet_are_unknown(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told.begun()
    told.picked("a", worker="worker0")
    told.now += 7200
    told.begun()
    history = story_of(told)
    monkeypatch.setattr(history, "_state", lambda now: "running")
    status = history.status()
    assert (status.files_per_hour, status.picks_per_hour, status.workers) == (None, None, ())


def test_the_rate_of_a_worker_that_was_through_with_one_is_unknown(told: Any) -> None:
    told.begun()
    told.picked("a", worker="worker0")
    (worker,) = story_of(told).status().workers
    assert (worker.micrographs, worker.per_hour) == (1, None)


def test_lags_are_of_the_last_200(told: Any) -> None:
    for n in range(300):
        told.picked(f"m{n}", lag_s=1000.0 if n < 100 else float(n))
    status = story_of(told).status()
    assert status.lag_p50_s == 200
    assert status.lag_p95_s == 290
