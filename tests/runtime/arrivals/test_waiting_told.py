"""What is waited for is told at once, and does not keep a run from ending that stops when idle."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.known import unpicked
from gtpick_rt.arrivals.lookahead import Lookahead
from gtpick_rt.arrivals.ready import Candidate
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.records import Failure

Watch = Callable[..., Any]
Put = Callable[..., None]
STAR = b"data_\nloop_\n_rlnMicrographName\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"12345", "5 of 1024 bytes"),
        (b"", "header is blank"),
        (b"\0" * 4096, "header is blank"),
        (None, "1215 of 1216 bytes"),
    ],
    ids=["five bytes", "none", "blank", "cut"],
)
def test_a_file_that_is_not_whole_is_named_within_two_seconds_with_the_time(
    content: bytes | None, words: str, watch: Watch, clock: Any, small: bytes
) -> None:
    Path("in").mkdir()
    watcher = watch("in")
    clock.at(7.1, lambda: clock.write(Path("in/a.mrc"), small[:-1] if content is None else content))
    assert not watcher.run(7)
    before = len(watcher.notices)
    assert not watcher.run(2.1)
    (notice,) = watcher.notices[before:]
    assert notice.path == "in/a.mrc"
    assert words in notice.message
    assert "; last written 2023-11-14 " in notice.message  # by the clock of the files, not since it was seen
    assert not watcher.run(40)
    assert len(watcher.notices) == before + 1  # once


def test_a_file_that_is_written_in_one_go_is_not_talked_of(watch: Watch, clock: Any, image: bytes) -> None:
    Path("in").mkdir()
    for part in range(20):
        clock.at(
            3 + 0.3 * part, lambda part=part: clock.write(Path("in/a.mrc"), image[: len(image) * (part + 1) // 20])
        )
    watcher = watch("in")
    assert watcher.jobs(20) == ["a"]
    assert not [notice for notice in watcher.notices if notice.path == "in/a.mrc"]


def test_a_file_that_grows_for_long_is_named(watch: Watch, clock: Any, image: bytes) -> None:
    Path("in").mkdir()
    for part in range(100):
        clock.at(0.3 * part, lambda part=part: clock.write(Path("in/a.mrc"), image[: 2000 + part]))
    watcher = watch("in")
    watcher.run(15)
    assert [notice.path for notice in watcher.notices if notice.path == "in/a.mrc"] == ["in/a.mrc"]


@pytest.mark.parametrize("content", [b"", STAR, STAR + b"'in/a.mrc"], ids=["none", "no rows", "half a row"])
def test_a_list_that_is_not_whole_is_named_within_two_seconds(content: bytes, watch: Watch, clock: Any) -> None:
    Path("mics.star").write_bytes(content)
    watcher = watch("mics.star", stop_after_idle_s=20)
    notice = watcher.notice(2)
    assert notice.message.startswith("mics.star: ")
    (failure,) = watcher.run(100)
    assert (watcher.ended, failure.path, failure.kind) == (True, "mics.star", "FormatError")
    assert clock.now < 30


def test_that_nothing_has_come_yet_is_told_once(watch: Watch, put: Put) -> None:
    put("in/a_PS.mrc")
    assert watch("in").notice(2).message == (
        "no micrograph in in yet (1 left out by their names, see --exclude): the first is waited for"
    )


def test_that_all_is_done_and_more_is_waited_for_is_told_once(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc")
    clock.at(30, lambda: put("in/b.mrc"))
    watcher = watch("in")
    assert watcher.jobs(60) == ["a", "b"]
    assert [notice.message for notice in watcher.notices] == ["nothing new in in: more micrographs are waited for"]


@pytest.mark.parametrize("content", [b"12345", b"", b"\0" * 4096])
def test_a_file_that_no_longer_changes_does_not_keep_a_run_from_ending(
    content: bytes, watch: Watch, clock: Any, put: Put
) -> None:
    put("in/b.mrc")
    clock.write(Path("in/a.mrc"), content)
    watcher = watch("in", timing=Timing(), stop_after_idle_s=5)
    given = watcher.run(1000)
    assert watcher.ended
    assert clock.now < 12
    assert [type(each) for each in given] == [Job, Failure]
    assert given[1].stem == "a"


def test_a_named_file_that_is_not_there_does_not_either(watch: Watch, clock: Any) -> None:
    watcher = watch("in/a.mrc", timing=Timing(), stop_after_idle_s=5)
    (failure,) = watcher.run(1000)
    assert (watcher.ended, failure.kind) == (True, "UnreadableError")
    assert clock.now < 12


def test_many_files_that_are_missing_are_told_without_asking_all_the_others_for_each(
    watch: Watch, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, asked = Candidate.is_stuck, Counter[float]()

    def counting(candidate: Candidate) -> bool:
        asked[clock.now] += 1
        return bool(really.__get__(candidate))

    monkeypatch.setattr(Candidate, "is_stuck", property(counting))
    Path("mics.star").write_bytes(STAR + b"".join(b"%d.mrc\n" % number for number in range(100)))
    assert len(watch("mics.star").run(100)) == 100
    assert max(asked.values()) <= 200


def test_a_file_that_grows_keeps_a_run_from_ending(watch: Watch, clock: Any, image: bytes) -> None:
    Path("in").mkdir()
    for part in range(20):
        clock.at(4 * part, lambda part=part: clock.write(Path("in/a.mrc"), image[: len(image) * (part + 1) // 20]))
    watcher = watch("in", timing=Timing(), stop_after_idle_s=5)
    assert watcher.jobs(1000) == ["a"]
    assert watcher.ended


def test_a_margin_of_zeros_that_will_be_taken_for_meant_is_waited_for(watch: Watch, clock: Any, image: bytes) -> None:
    Path("in").mkdir()
    clock.write(Path("in/a.mrc"), image[: -(1 << 17)] + bytes(1 << 17))
    assert watch("in", timing=Timing(), stop_after_idle_s=3).jobs(100) == ["a"]


def test_what_is_waited_for_is_told_while_the_first_micrograph_is_looked_for(clock: Any, small: bytes) -> None:
    Path("in").mkdir()
    clock.write(Path("in/a.mrc"), small[:-1])
    told: list[Failure] = []
    source = Watched(["in"], clock=clock, wait=clock.wait, stop_after_idle_s=5)
    lookahead = Lookahead(source, threading.Event(), told.append)
    assert list(lookahead.look()) == []
    assert [(each.path, each.kind) for each in told] == [("in/a.mrc", "Waiting"), ("in/a.mrc", "IncompleteError")]
    assert [each.kind for each in lookahead if isinstance(each, Failure)] == ["IncompleteError"]  # to be recorded


def test_what_a_run_leaves_is_told_first_of_all_what_is_not_whole(
    watch: Watch, clock: Any, put: Put, small: bytes
) -> None:
    put("in/a.mrc", "in/b.mrc")
    clock.write(Path("in/c.mrc"), small[:-1])
    watcher = watch("in", until=1)
    assert watcher.jobs(20) == ["a"]
    told = unpicked(watcher.source.awaited())
    assert told.startswith("not picked yet: 2 files, first in/c.mrc: 1215 of 1216 bytes are there")
    assert told.endswith("; the same command again picks what is left once whole")


def test_a_file_that_has_only_not_had_its_turn_is_named_without_a_flaw(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "in/b.mrc")
    watcher = watch("in", until=1)
    assert watcher.jobs(20) == ["a"]
    assert unpicked(watcher.source.awaited()) == ("not picked yet: in/b.mrc; the same command again picks what is left")
