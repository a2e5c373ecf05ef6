"""The history of several processes: of each is told what it does, and nothing is lost or counted
twice between logs.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_rt import pick
from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.following import tail as tailing
from gtpick_rt.following.history import History
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import log_path, shards_folder
from gtpick_rt.output.lock import lock_folder
from gtpick_rt.output.summary import Settings, WorkerRecord
from gtpick_rt.types import FloatArray, Micrograph

ONE, TWO = (next(stem for stem in "abcdefgh" if Shard(number, 2).holds(stem)) for number in (1, 2))
"""Micrographs of the first and of the second of two shards."""


def story_of(told: Any) -> History:
    """A history by the clock of what is told, read to the end."""
    history = History(told.out, clock=lambda: told.now)
    history.catch_up()
    return history


def stems(history: History) -> set[str]:
    return {entry.stem for entry in history.entries}


def counted(history: History) -> dict[str, int]:
    """How many micrographs each worker is said to have done."""
    return {worker.name: worker.micrographs for worker in history.status().workers}


@pytest.fixture
def shared(told: Any) -> Any:
    """A folder that two shards share, which have picked four and six micrographs, a second each."""
    for number, count in ((1, 4), (2, 6)):
        told.shard = f"{number}/2"
        told.begun()
        for n in range(count):
            told.now += 1
            told.picked(f"s{number}m{n}", backlog=count - 1 - n)
    return told


def list_all(out: Path) -> None:
    """Do as the last shard does with the logs."""
    settings = Settings(
        model="nano 2", model_sha256="ab", diameter_A=100, contrast="dark", threshold=0.5, pixel_size_A=None
    )
    with OutputFolder(out) as whole:
        whole.begin(settings)


def test_all_shards_are_followed_though_there_is_no_log_of_the_folder(shared: Any) -> None:
    assert not log_path(shared.out).exists()
    history = story_of(shared)
    assert len(history.entries) == 10
    assert counted(history) == {"shard 1/2": 4, "shard 2/2": 6}
    shared.shard = "1/2"
    shared.picked("late")
    assert [entry.stem for entry in history.update()] == ["late"]
    assert counted(history)["shard 1/2"] == 5


def test_what_waits_is_what_waits_for_all_shards(told: Any) -> None:
    for shard, backlog in (("1/2", 3), ("2/2", 4)):
        told.shard = shard
        told.picked(shard, backlog=backlog)
    history = story_of(told)
    assert history.status().backlog == 7
    told.shard = "1/2"
    told.summary(backlog=5)
    history.catch_up()
    assert history.status().backlog == 9
    told.shard = ""
    told.summary(backlog=2)  # by the first shard, which knows its own alone
    history.catch_up()
    assert history.status().backlog == 9
    list_all(told.out)
    told.summary(backlog=1)
    history.catch_up()
    assert history.status().backlog == 1
    assert story_of(told).status().backlog == 1


def test_a_shard_that_begins_forgets_the_failures_of_its_own_share(told: Any) -> None:
    for shard, stem in (("1/2", ONE), ("2/2", TWO)):
        told.shard = shard
        told.begun()
        told.failed(stem)
    history = story_of(told)
    assert [each.stem for each in history.failures] == [ONE, TWO]
    told.begun()
    history.catch_up()
    assert [each.stem for each in history.failures] == [ONE]
    told.shard = ""
    told.begun()
    history.catch_up()
    assert history.failures == []


@pytest.fixture
def alive(told: Any) -> Iterator[None]:
    """This process, as the second shard."""
    lock = lock_folder(shards_folder(told.out) / "2-of-2.lock")
    yield
    lock.release()


@pytest.mark.usefixtures("alive")
def test_a_shard_that_lives_is_a_run_that_goes_on(told: Any) -> None:
    told.shard = "2/2"
    told.picked("a")
    history = story_of(told)
    assert history.status().state == "running"
    for later_s in (100, 1000):
        told.now += later_s
        told.summary()
        history.catch_up()
        assert history.status().state == "idle"


def test_shards_that_have_all_ended_before_their_work_are_not_finished(shared: Any) -> None:
    assert story_of(shared).status().state == "finished"
    shared.shard = "1/2"
    shared.picked("late", backlog=1)
    assert story_of(shared).status().state == "no process"


def test_what_the_last_shard_moves_into_the_log_is_not_counted_again(shared: Any) -> None:
    history, half = story_of(shared), History(shared.out, clock=lambda: shared.now)
    half.update()
    shared.picked("late")
    before = story_of(shared).status()
    list_all(shared.out)
    assert not shards_folder(shared.out).exists()
    assert [entry.stem for entry in history.update() + history.update()] == ["late"]
    for each in (history, half, story_of(shared)):
        each.catch_up()
        assert len(each.entries) == 11
        assert each.status().workers == before.workers
        assert each.status().files_per_hour == before.files_per_hour


def test_time_in_which_several_shards_were_at_work_counts_once(told: Any) -> None:
    for shard, begun_after_s, micrographs in (("1/2", 0, 5), ("2/2", 20, 6)):
        told.shard, told.now = shard, 1.8e9 + begun_after_s
        told.begun()
        for n in range(micrographs):
            told.now += 10
            told.picked(f"s{shard[0]}m{n}", backlog=micrographs - 1 - n)
    average = story_of(told).status().average
    assert (average.files, average.seconds) == (11, 80)
    list_all(told.out)
    assert story_of(told).status().average == average


def test_lines_that_are_met_in_both_logs_count_once_whichever_is_read_first(shared: Any) -> None:
    history = story_of(shared)
    shared.picked("late")
    logs = sorted(shards_folder(shared.out).iterdir())
    log_path(shared.out).write_bytes(
        b"".join(log.read_bytes() for log in logs)
    )  # the last shard is about to remove them
    for _ in range(3):
        history.update()
        assert len(history.entries) + (0 if "late" in stems(history) else 1) == 11
    assert counted(history) == {"shard 1/2": 4, "shard 2/2": 7}
    for log in logs:
        log.unlink()
    for each in (history, story_of(shared)):
        each.catch_up()
        assert counted(each) == {"shard 1/2": 4, "shard 2/2": 7}


def test_a_later_batch_of_the_same_shards_is_told_as_well(shared: Any) -> None:
    history = story_of(shared)
    list_all(shared.out)
    shared.begun()
    shared.picked("later")
    history.catch_up()
    again = story_of(shared)
    for each in (history, again):
        assert len(each.entries) == 11
        assert counted(each) == {"shard 1/2": 4, "shard 2/2": 1}
    list_all(shared.out)
    for each in (history, again, story_of(shared)):
        each.catch_up()
        assert len(each.entries) == 11
        assert counted(each) == {"shard 1/2": 4, "shard 2/2": 1}


def test_long_logs_of_shards_are_read_a_bounded_part_at_a_time(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "_MOST_BYTES", 700)
    history, most = History(shared.out), 0
    history.update()
    while history.behind:
        most = max(most, len(history.update()))
    assert len(history.entries) == 10
    assert most <= 4


def test_real_shards_are_told_while_they_are_at_work_and_after(
    tiny_model: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    tmp_path: Path,
) -> None:
    for number in range(12):
        image = dots(np.array([[71, 39]], np.float32), (128, 192), seed=number).data
        save_mrc(tmp_path / "in" / f"m{number}.mrc", image)
    out = tmp_path / "out"
    history = History(out)

    def shard(number: int) -> None:
        pick(tmp_path / "in", out, diameter_A=24, model=str(tiny_model), backend="cpu", shard=f"{number}/3")

    threads = [threading.Thread(target=shard, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    picked = []
    while any(thread.is_alive() for thread in threads):
        picked += [entry.stem for entry in history.update()]
    while new := history.update() or history.behind:
        picked += [] if new is True else [entry.stem for entry in new]
    assert sorted(picked) == sorted(f"m{number}" for number in range(12))
    assert sum(counted(history).values()) == 12
    assert history.status().state == "finished"
    assert {worker.backend for worker in history.status().workers} == {"onnxruntime-cpu"}


def test_each_worker_is_told_with_its_rate_and_when_it_was_heard_last(told: Any) -> None:
    told.begun()
    for n in range(10):
        told.now += 60
        told.picked(f"a{n}", worker="worker0")
        if n < 3:
            told.failed(f"b{n}", worker="worker1")
    told.summary(workers=[WorkerRecord(name="worker1", backend="openvino", micrographs=3, busy_s=1.0)])
    history = story_of(told)
    first, second = history.status().workers
    assert (first.name, first.backend, first.micrographs, first.heard) == ("worker0", None, 10, told.now)
    assert (second.name, second.backend, second.micrographs, second.heard) == ("worker1", "openvino", 3, told.now - 420)
    assert first.per_hour == pytest.approx(60)
    assert second.per_hour == pytest.approx(2 / (540 / 3600))
    for n in range(90):
        told.now += 60
        told.picked(f"c{n}", worker="worker0")
    history.catch_up()
    first, second = history.status().workers
    assert first.per_hour == pytest.approx(60, rel=0.02)
    assert (second.per_hour, second.micrographs) == (0, 3)


def test_workers_of_an_earlier_run_are_forgotten(told: Any) -> None:
    told.begun()
    told.picked("a", worker="worker10")
    told.picked("b", worker="worker9")
    history = story_of(told)
    assert list(counted(history)) == ["worker9", "worker10"]
    told.begun()
    told.picked("c")
    history.catch_up()
    assert history.status().workers == ()
    told.shard = "1/2"
    told.begun()
    history.catch_up()
    assert counted(history) == {"shard 1/2": 0}


@pytest.mark.parametrize("worker", [None, 3, "", ["x"], {"name": 1}])
def test_a_worker_without_a_name_is_none(told: Any, worker: object) -> None:
    told.picked("a", worker=worker)
    assert story_of(told).status().workers == ()
