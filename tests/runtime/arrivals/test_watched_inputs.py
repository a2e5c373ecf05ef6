"""Lists of micrographs that grow, and paths that are sent on stdin."""

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pytest

from gtpick_rt.arrivals import watched_inputs
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.errors import UsageError
from gtpick_rt.records import Failure

Watch = Callable[..., Any]
Put = Callable[..., None]
STAR = Path("mics.star")
HEADER = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"


@pytest.fixture
def list_in_star(clock: Any) -> Callable[..., None]:
    """A function that writes a micrographs STAR file."""

    def write(*names: str, end: str = "") -> None:
        clock.write(STAR, (HEADER + "".join(f"{name} 3.5\n" for name in names) + end).encode())

    return write


def test_a_star_file_that_grows_gives_each_micrograph_once_it_is_listed_and_whole(
    watch: Watch, put: Put, list_in_star: Callable[..., None]
) -> None:
    watcher = watch("mics.star")
    assert watcher.notice(10).path == "mics.star"
    put("MotionCorr/job002/a.mrc", "MotionCorr/job002/b.mrc")
    list_in_star("MotionCorr/job002/a.mrc", "MotionCorr/job002/c.mrc")
    assert watcher.run(6) == [Job(Path("MotionCorr/job002/a.mrc"), PurePosixPath("a"), "MotionCorr/job002/a.mrc")]
    put("MotionCorr/job002/c.mrc")
    assert watcher.jobs(4) == ["c"]
    list_in_star("MotionCorr/job002/a.mrc", "MotionCorr/job002/c.mrc", "MotionCorr/job002/b.mrc")
    assert watcher.jobs(6) == ["b"]
    assert watcher.jobs(50) == []


def test_a_star_file_that_is_half_written_is_waited_for_and_reported_in_the_end(
    watch: Watch, put: Put, list_in_star: Callable[..., None]
) -> None:
    put("a.mrc", "b.mrc")
    list_in_star("a.mrc", end="b.mr")
    watcher = watch("mics.star")
    assert watcher.jobs(59) == []
    failure = watcher.failure(100)
    assert failure.path == "mics.star"
    assert "cannot be read as a STAR file" in failure.message
    list_in_star("a.mrc", "b.mrc")
    assert watcher.jobs(6) == ["a", "b"]


@pytest.fixture
def keep_listing(clock: Any, list_in_star: Callable[..., None]) -> Callable[..., None]:
    """A function that writes the list anew each second of 40, with names up to that second."""

    def begin(names: Callable[[int], list[str]]) -> None:
        for second in range(40):
            clock.at(second, lambda second=second: list_in_star(*names(second)))

    return begin


def test_a_star_file_that_gains_a_row_each_second_gives_all_but_the_last(
    watch: Watch, put: Put, keep_listing: Callable[..., None]
) -> None:
    names = [f"in/{number:02}.mrc" for number in range(40)]
    put(*names, "in/zz.mrc")
    keep_listing(lambda second: names[: second + 1])
    watcher = watch("mics.star", "in/zz.mrc")
    given = watcher.jobs(39)
    assert len(given) >= 25
    assert sorted(given + watcher.jobs(20)) == [f"in/{number:02}" for number in range(40)] + ["zz"]


def test_a_star_file_that_is_written_again_and_again_gives_all(
    watch: Watch, put: Put, keep_listing: Callable[..., None]
) -> None:
    put("a.mrc", "b.mrc")
    keep_listing(lambda second: ["a.mrc", "b.mrc"])
    assert watch("mics.star").jobs(39) == ["a", "b"]


def test_half_a_name_at_the_end_of_a_star_file_that_grows_is_not_waited_for(
    watch: Watch, put: Put, clock: Any, list_in_star: Callable[..., None], keep_listing: Callable[..., None]
) -> None:
    names = [f"{number:02}.mrc" for number in range(40)]
    put(*names)
    keep_listing(lambda second: [*names[:second], f"{second:02}"])
    clock.at(40, lambda: list_in_star(*names))
    watcher = watch("mics.star")
    assert sorted(watcher.jobs(60)) == [f"{number:02}" for number in range(40)]
    assert not any("is not there" in notice.message for notice in watcher.notices)


def test_a_star_file_that_changes_while_it_is_read_is_not_taken_as_it_was(
    watch: Watch, put: Put, clock: Any, keep_listing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.mrc", "b.mrc")
    keep_listing(lambda second: ["a.mrc", "b.mrc"])
    really = watched_inputs.read_list

    def read_and_touch(path: Path) -> Any:
        rows = really(path)
        clock.now += 0.01
        clock.touch(path)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(watched_inputs, "read_list", read_and_touch)
        watcher = watch("mics.star")
        assert watcher.jobs(30) == []
    assert watcher.jobs(60) == ["a", "b"]


def test_a_star_file_that_cannot_be_read_for_a_moment_is_read_again_as_it_is(
    watch: Watch, put: Put, list_in_star: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.mrc")
    list_in_star("a.mrc")
    really, failing = watched_inputs.read_list, iter(range(3))

    def stale(path: Path) -> Any:
        if next(failing, None) is not None:
            raise UsageError(f"{path}: cannot be read: Stale file handle")
        return really(path)

    monkeypatch.setattr(watched_inputs, "read_list", stale)
    assert watch("mics.star").jobs(20) == ["a"]


def test_an_impossible_name_in_a_star_file_spoils_only_itself(
    watch: Watch, put: Put, list_in_star: Callable[..., None]
) -> None:
    put("a.mrc", "b.mrc")
    list_in_star("a.mrc", "..", "b.mrc")
    given = watch("mics.star").run(100)
    (failure,) = (arrival for arrival in given if isinstance(arrival, Failure))
    assert "'..': not the name of a micrograph" in failure.message
    assert [arrival.stem for arrival in given if isinstance(arrival, Job)] == [PurePosixPath("a"), PurePosixPath("b")]


def test_a_micrograph_that_a_star_file_lists_is_missed_in_the_end(
    watch: Watch, put: Put, list_in_star: Callable[..., None]
) -> None:
    list_in_star("a.mrc")
    watcher = watch("mics.star")
    failure = watcher.failure(100)
    assert (failure.stem, failure.kind) == ("a", "UnreadableError")
    put("a.mrc")
    assert watcher.jobs(35) == ["a"]


EXPOSURES = Path("P3/J5/exposures.cs")


@pytest.fixture
def list_in_cs(clock: Any) -> Callable[..., None]:
    """A function that writes cryoSPARC's exposures, their uid being the row;

    `cut` bytes are missing.
    """

    def write(*names: str, cut: int = 0) -> None:
        records = np.zeros(len(names), [("uid", "<u8"), ("micrograph_blob/path", "S99"), ("ctf/exp_group_id", "<u4")])
        records["uid"], records["micrograph_blob/path"] = np.arange(len(names)), np.char.encode(names)
        buffer = io.BytesIO()
        np.save(buffer, records)
        EXPOSURES.parent.mkdir(parents=True, exist_ok=True)
        clock.write(EXPOSURES, buffer.getvalue()[: len(buffer.getvalue()) - cut])

    return write


def test_exposures_of_a_session_that_grows_come_once_each_with_their_numbers(
    watch: Watch, put: Put, list_in_cs: Callable[..., None]
) -> None:
    watcher = watch(str(EXPOSURES))
    assert watcher.notice(10).path == str(EXPOSURES)
    put("P3/J2/a.mrc", "P3/J2/b.mrc")
    list_in_cs("J2/a.mrc")
    assert watcher.jobs(6) == ["J2/a"]
    list_in_cs("J2/a.mrc", "J2/b.mrc", cut=1)
    assert watcher.jobs(6) == []
    list_in_cs("J2/a.mrc", "J2/b.mrc")
    (job,) = watcher.run(6)
    path = Path("P3/J2/b.mrc").absolute()
    assert job == Job(path, PurePosixPath("J2/b"), "J2/b.mrc", exposure_uid=1, exposure_group=0)
    assert watcher.jobs(50) == []


def test_exposures_none_of_which_is_found_are_reported_in_the_end(
    watch: Watch, put: Put, list_in_cs: Callable[..., None]
) -> None:
    list_in_cs("J2/a.mrc")
    watcher = watch(str(EXPOSURES))
    failure = watcher.failure(100)
    assert failure.path == str(EXPOSURES)
    assert "run from the folder of the cryoSPARC project" in failure.message


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The other end of a pipe that is stdin."""
    receiver, sender = os.pipe()
    with os.fdopen(sender, "wb", buffering=0) as theirs, io.TextIOWrapper(os.fdopen(receiver, "rb")) as ours:
        monkeypatch.setattr(sys, "stdin", ours)
        yield theirs


def close(stdin: BinaryIO) -> None:
    """Close stdin, and wait, on the real clock, until the thread that reads it has seen its end."""
    stdin.close()
    for thread in threading.enumerate():
        if thread.name == "gtpick-stdin":
            thread.join(10)


def test_paths_on_stdin_are_given_without_settling_until_the_last(watch: Watch, put: Put, stdin: BinaryIO) -> None:
    put("in/a.mrc", "in/x y.mrc")
    watcher = watch("-")
    stdin.write(b"in/a.mrc\r\n\nin/x y.mrc\nin/a.mrc\n")
    close(stdin)
    assert watcher.jobs(1.5) == ["a", "x y"]
    assert watcher.ended


def test_a_path_on_stdin_is_waited_for_while_it_is_missing_or_incomplete(
    watch: Watch, clock: Any, put: Put, small: bytes, stdin: BinaryIO
) -> None:
    clock.write(Path("a.mrc"), small[:-1])
    clock.at(20, lambda: clock.write(Path("a.mrc"), small))
    clock.at(30, lambda: put("b.mrc"))
    watcher = watch("-")
    stdin.write(b"a.mrc\nb.mrc\nc.mrc\n")
    close(stdin)
    assert watcher.jobs(19) == []
    assert watcher.jobs(3) == ["a"]
    assert watcher.jobs(10) == ["b"]
    failure = watcher.failure(100)
    assert (failure.stem, failure.kind) == ("c", "UnreadableError")
    assert watcher.ended
    assert "a.mrc: 1215 of 1216 bytes are there" in watcher.notices[0].message
    assert [notice.message for notice in watcher.notices[1:]] == [
        f"{name}.mrc: is not there; it is waited for, for 60 s" for name in ("b", "c")
    ]


def test_hostile_lines_on_stdin_are_reported(watch: Watch, stdin: BinaryIO) -> None:
    watcher = watch("-")
    stdin.write(b"a\0b.mrc\nc\xff.mrc\n..\n" + b"x" * 300 + b".mrc\n")
    close(stdin)
    given = watcher.run(100)
    assert [failure.kind for failure in given] == ["FormatError"] * 3 + ["UnreadableError"]
    assert watcher.ended


def test_the_end_of_stdin_waits_for_jobs_in_hand(watch: Watch, put: Put, stdin: BinaryIO) -> None:
    put("a.mrc")
    watcher = watch("-")
    stdin.write(b"a.mrc")
    close(stdin)
    (job,) = watcher.run(10, done=False)
    assert not watcher.ended
    watcher.source.again(job, 3)
    assert watcher.run(2, done=False) == []
    assert watcher.run(4, done=False) == [job]
    watcher.source.done(job)
    assert watcher.run(1) == []
    assert watcher.ended


def test_other_inputs_are_watched_beyond_the_end_of_stdin(watch: Watch, put: Put, stdin: BinaryIO) -> None:
    put("in/a.mrc")
    watcher = watch("-", "in")
    close(stdin)
    assert watcher.jobs(10) == ["a"]
    assert not watcher.ended
