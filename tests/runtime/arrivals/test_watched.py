"""What the watcher gives, when, and what it reports."""

import errno
import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tifffile

from gtpick_rt.arrivals.folders import Names
from gtpick_rt.arrivals.jobs import Job, job_below
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.stamp import Stamp, stamp_of
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.records import Failure, PickedFrom

Watch = Callable[..., Any]
Put = Callable[..., None]


def finished(*names: str) -> dict[str, PickedFrom]:
    """The micrographs of an earlier run, as they are now, at 1.5 Å per pixel."""
    stamps = {name: stamp_of(name) for name in names}
    return {Path(name).stem: PickedFrom(stamp.size, stamp.mtime_ns, 1.5) for name, stamp in stamps.items()}


def test_what_is_there_and_what_comes_is_given_once_it_has_settled(watch: Watch, clock: Any, put: Put) -> None:
    put("in/b.mrc", "in/a.mrc")
    watcher = watch("in")
    assert watcher.jobs(1.9) == []
    assert watcher.jobs(0.4) == ["a", "b"]
    clock.at(10, lambda: put("in/c.mrc"))
    assert watcher.jobs(9) == []
    assert watcher.jobs(4) == ["c"]
    assert watcher.jobs(100) == []


def test_a_job_is_as_in_a_batch(watch: Watch, put: Put) -> None:
    put("in/x/a.mrc", "MotionCorr/job002/Movies/b.mrc")
    given = watch("in", "MotionCorr/job002", recursive=True).run(5)
    assert given == [
        Job(Path("in/x/a.mrc"), PurePosixPath("x/a"), "in/x/a.mrc"),
        Job(Path("MotionCorr/job002/Movies/b.mrc"), PurePosixPath("Movies/b"), "MotionCorr/job002/Movies/b.mrc"),
    ]


def test_the_current_folder_can_be_watched(watch: Watch, put: Put) -> None:
    put("a.mrc", "x/b.mrc")
    watcher = watch(".", recursive=True)
    assert [(str(job.path), job.name) for job in watcher.run(5)] == [("a.mrc", "a.mrc"), ("x/b.mrc", "x/b.mrc")]
    assert watcher.jobs(50) == []


def test_a_sign_is_given_at_least_every_fifth_of_a_second(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc")
    last = clock.now
    for arrival in watch("in", stop_after_idle_s=10).source:
        assert clock.now - last <= 0.2001
        last = clock.now
        if isinstance(arrival, Job):
            break


def test_a_file_that_stays_incomplete_is_reported_once_and_given_when_it_is_whole(
    watch: Watch, clock: Any, small: bytes
) -> None:
    Path("in").mkdir()
    clock.write(Path("in/a.mrc"), small[:-1])
    watcher = watch("in")
    assert watcher.jobs(59) == []
    failure = watcher.failure(10)
    assert (failure.stem, failure.path, failure.kind) == ("a", "in/a.mrc", "IncompleteError")
    assert "1215 of 1216 bytes" in failure.message
    assert watcher.jobs(200) == []
    clock.write(Path("in/a.mrc"), small)
    assert watcher.jobs(35) == ["a"]


def test_a_file_that_grows_slowly_is_not_reported(watch: Watch, clock: Any, small: bytes) -> None:
    Path("in").mkdir()
    for part in range(10):
        size = len(small) * (part + 1) // 10
        clock.at(40 * part, lambda size=size: clock.write(Path("in/a.mrc"), small[:size]))
    watcher = watch("in")
    assert watcher.jobs(360) == []
    assert watcher.jobs(3.2) == ["a"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_is_reported_at_once_and_given_when_it_can(
    watch: Watch, put: Put, failing_open: Callable[[int], None], number: int
) -> None:
    put("in/a.mrc")
    failing_open(number)
    watcher = watch("in")
    failure = watcher.failure(100)
    assert failure.kind == "UnreadableError"
    assert failure.message.startswith(f"in/a.mrc: cannot be read: {os.strerror(number)}")
    failing_open(0)
    assert watcher.jobs(31) == ["a"]


def test_an_unreadable_image_is_given_for_the_reader_to_say_what_is_wrong(watch: Watch, clock: Any) -> None:
    Path("in").mkdir()
    clock.write(Path("in/a.mrc"), b"no image" * 1000)
    assert watch("in").jobs(3) == ["a"]


def test_a_file_that_goes_before_it_is_ready_is_dropped_silently(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc", "in/b.mrc")
    clock.at(1, Path("in/a.mrc").unlink)
    watcher = watch("in", stop_after_idle_s=100)
    assert watcher.jobs(90) == ["b"]
    put("in/a.mrc")
    assert watcher.jobs(5) == ["a"]


def test_a_link_is_waited_for_until_it_leads_to_a_file(watch: Watch, put: Put) -> None:
    put("store/b.mrc", "in/c.mrc")
    Path("in/a.mrc").symlink_to(Path("store/a.mrc").absolute())
    Path("in/b.mrc").symlink_to(Path("store/b.mrc").absolute())
    watcher = watch("in")
    assert watcher.jobs(30) == ["b", "c"]
    failure = watcher.failure(60)
    assert (failure.path, failure.kind) == ("in/a.mrc", "UnreadableError")
    put("store/a.mrc")
    assert watcher.jobs(35) == ["a"]


def test_a_file_whose_content_changes_is_given_again(watch: Watch, clock: Any, put: Put, small: bytes) -> None:
    put("in/a.mrc", "in/b.mrc")
    watcher = watch("in")
    assert watcher.jobs(5) == ["a", "b"]
    clock.write(Path("in/a.mrc"), small[::-1][:100], offset=1024)
    assert watcher.jobs(6) == ["a"]
    assert watcher.jobs(60) == []
    replacement = Path("in/.b")
    replacement.write_bytes(small)
    old = Path("in/b.mrc").stat()
    os.utime(replacement, ns=(old.st_mtime_ns, old.st_mtime_ns))
    replacement.rename("in/b.mrc")
    assert watcher.jobs(6) == ["b"]


def test_where_inodes_are_made_up_anew_each_file_and_list_is_given_once(
    watch: Watch, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()

    def unstable(path: Path | str) -> Stamp:
        return replace(stamp_of(path), inode=next(numbers))

    for module in ("watched", "ready", "watched_inputs"):
        monkeypatch.setattr(f"gtpick_rt.arrivals.{module}.stamp_of", unstable)
    put("in/a.mrc", "b.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nb.mrc\n")
    watcher = watch("in", "mics.star")
    assert watcher.jobs(10) == ["b", "a"]
    assert watcher.jobs(60) == []


def test_a_file_in_hand_is_not_given_again_before_it_is_done(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch("in")
    (job,) = watcher.run(5, done=False)
    clock.touch(Path("in/a.mrc"))
    assert watcher.jobs(30) == []
    watcher.source.done(job)
    assert watcher.jobs(6) == ["a"]


def test_a_job_that_is_given_back_comes_again_not_before_its_time(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch("in")
    (job,) = watcher.run(5, done=False)
    watcher.source.again(job, 30)
    assert watcher.run(29) == []
    assert watcher.run(5) == [job]
    assert watcher.run(100) == []


@pytest.mark.parametrize("text", ["in", "in/a.mrc", "mics.star"])
def test_a_file_that_was_gone_when_it_was_to_be_read_is_given_when_it_is_back(
    text: str, watch: Watch, put: Put
) -> None:
    put("in/a.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nin/a.mrc\n")
    watcher = watch(text)
    (job,) = watcher.run(5, done=False)
    Path("in/a.mrc").rename("a.mrc")
    watcher.source.again(job, 0)
    assert watcher.run(20) == []
    Path("a.mrc").rename("in/a.mrc")
    assert watcher.run(40) == [job]


def test_a_listed_file_that_was_gone_when_it_was_to_be_read_is_missed_in_the_end(watch: Watch, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch("in/a.mrc", stop_after_idle_s=5)
    (job,) = watcher.run(5, done=False)
    Path("in/a.mrc").unlink()
    watcher.source.again(job, 0)
    (failure,) = watcher.run(100)
    assert (watcher.ended, failure.stem, failure.kind) == (True, "a", "UnreadableError")


@pytest.mark.parametrize("text", ["in", "in/a.mrc"])
def test_what_is_picked_may_be_moved_away_and_back(text: str, watch: Watch, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch(text)
    (job,) = watcher.run(5, done=False)
    Path("in/a.mrc").rename("a.mrc")
    watcher.source.done(job)
    assert watcher.run(20) == []
    Path("a.mrc").rename("in/a.mrc")
    assert watcher.run(40) == []


def test_a_file_system_that_comes_back_gives_nothing_again(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "in/x/b.mrc")
    watcher = watch("in", recursive=True)
    assert watcher.jobs(5) == ["a", "x/b"]
    Path("in").rename("unmounted")
    watcher.notice(20)
    Path("unmounted").rename("in")
    assert watcher.jobs(100) == []


def test_what_an_earlier_run_has_picked_is_passed_over_unless_it_has_changed(
    watch: Watch, clock: Any, put: Put
) -> None:
    put("in/a.mrc", "in/b.mrc", "in/c.mrc")
    before = finished("in/a.mrc", "in/b.mrc")
    clock.now += 1
    clock.touch(Path("in/b.mrc"))
    watcher = watch("in", finished=before)
    assert sorted(watcher.jobs(6)) == ["b", "c"]
    assert watcher.jobs(60) == []


def test_finished_micrographs_are_not_looked_at_before_new_names(
    watch: Watch, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [f"in/{number:04}.mrc" for number in range(3000)]
    put(*old)
    before = finished(*old)
    put("in/zz.mrc")
    looked_at = []

    def looking(path: Path | str) -> Any:
        looked_at.append(str(path))
        return stamp_of(path)

    monkeypatch.setattr("gtpick_rt.arrivals.watched.stamp_of", looking)
    watcher = watch("in", finished=before, stop_after_idle_s=1)
    assert watcher.jobs(0.9) == []
    assert len(looked_at) == 1000
    assert watcher.jobs(2) == ["zz"]
    assert watcher.jobs(10) == []
    assert watcher.ended
    assert set(looked_at) >= set(old)  # the end waits until all have been looked at


def test_a_new_name_settles_while_the_finished_ones_before_it_are_taken_in(
    watch: Watch, clock: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [f"in/{number:04}.mrc" for number in range(3000)]
    put(*old, "in/zz.mrc")

    def slowly(*args: Any) -> Any:
        clock.now += 0.001
        return job_below(*args)

    monkeypatch.setattr("gtpick_rt.arrivals.watched_inputs.job_below", slowly)
    watcher = watch("in", finished=finished(*old))
    assert watcher.jobs(2.2) == ["zz"]
    assert watcher.source.backlog > 0  # not all of the old ones have been taken in


def test_what_takes_long_to_look_at_does_not_keep_out_what_is_new(
    watch: Watch, clock: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: Path | str) -> Any:
        clock.now += 0.5
        return stamp_of(path)

    monkeypatch.setattr("gtpick_rt.arrivals.ready.stamp_of", slowly)
    Path("in").mkdir()
    for number in range(50):
        Path(f"in/{number:04}.mrc").touch()  # never whole: with all of them to be looked at again, one is always due
    watcher = watch("in", timing=Timing(max_wait_s=1e6))
    assert watcher.jobs(60) == []
    put("in/zz.mrc")
    assert watcher.jobs(120) == ["zz"]


def test_a_sign_is_given_and_what_is_new_is_found_where_each_look_at_what_is_finished_takes_long(
    watch: Watch, clock: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [f"in/{number:04}.mrc" for number in range(200)]
    put(*old)
    looked_at = set()

    def slowly(path: Path | str) -> Stamp:
        clock.now += 0.05
        looked_at.add(str(path))
        return stamp_of(path)

    monkeypatch.setattr("gtpick_rt.arrivals.watched.stamp_of", slowly)
    source = watch("in", finished=finished(*old), until=1).source
    put("in/zz.mrc")
    last, given = clock.now, None
    for arrival in source:
        assert clock.now - last <= 0.4
        last = clock.now
        if isinstance(arrival, Job):
            given = (str(arrival.stem), clock.now < 5)
        if looked_at == set(old):
            break
    assert given == ("zz", True)


def test_a_file_that_is_not_whole_is_reported_again_when_asked_for(watch: Watch) -> None:
    Path("in").mkdir()
    Path("in/a.mrc").touch()
    watcher = watch("in")
    assert watcher.failure(70).stem == "a"
    assert watcher.run(200) == []
    watcher.source.retry("a")
    watcher.source.retry("nobody")
    assert watcher.failure(70).stem == "a"
    assert watcher.run(200) == []


def test_hostile_names_are_refused_and_odd_ones_are_not(watch: Watch, put: Put) -> None:
    put("in/a\nb.mrc", "in/c\x1b[0m.mrc", os.fsdecode(b"in/d\xff.mrc"))
    put("in/e f.mrc", "in/g'h.mrc", 'in/i"j.mrc', "in/#k.mrc", "in/Å.mrc", "in/_rlnX.mrc")
    given = watch("in").run(100)
    failures = [arrival for arrival in given if isinstance(arrival, Failure)]
    assert [failure.kind for failure in failures] == ["FormatError"] * 3
    assert all(failure.message.isprintable() and "rename the file" in failure.message for failure in failures)
    stems = [str(arrival.stem) for arrival in given if isinstance(arrival, Job)]
    assert sorted(stems) == ["#k", "_rlnX", "e f", "g'h", 'i"j', "Å"]


def test_a_second_file_with_the_same_outputs_is_reported_once(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc", "other/a.mrc")
    watcher = watch("in", "other")
    given = watcher.run(100)
    (failure,) = (arrival for arrival in given if isinstance(arrival, Failure))
    assert "'in/a.mrc' and 'other/a.mrc' would both be written to 'a'" in failure.message
    assert failure.stem != "a"
    assert [str(arrival.path) for arrival in given if isinstance(arrival, Job)] == ["in/a.mrc"]


def test_a_second_file_with_the_same_outputs_is_given_when_the_first_goes(watch: Watch, clock: Any, put: Put) -> None:
    put("in/a.mrc", "other/a.mrc")
    clock.at(1, Path("in/a.mrc").unlink)
    given = watch("in", "other").run(60)
    assert [str(each.path) for each in given if isinstance(each, Job)] == ["other/a.mrc"]


def test_a_file_is_given_when_the_link_to_it_that_came_first_goes(watch: Watch, clock: Any, put: Put) -> None:
    put("other/a.mrc")
    Path("in").mkdir()
    Path("in/a.mrc").symlink_to(Path("other/a.mrc").absolute())
    clock.at(1, Path("in/a.mrc").unlink)
    (job,) = watch("in", "other").run(60)
    assert str(job.path) == "other/a.mrc"


def test_a_file_that_is_reached_in_two_ways_is_given_once(watch: Watch, put: Put, project: Path) -> None:
    put("in/a.mrc")
    assert watch("in", "in/*.mrc", str(project / "in"), "in/a.mrc").jobs(10) == ["a"]


@pytest.mark.parametrize("spelled", ["{project}/in/a.mrc", "x/../in/a.mrc"])
def test_a_file_of_a_folder_and_a_list_is_given_once(spelled: str, watch: Watch, put: Put, project: Path) -> None:
    put("in/a.mrc", "x/b.mrc")
    Path("mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n{spelled.format(project=project)}\n")
    watcher = watch("in", "mics.star", "x", ".", recursive=True)
    assert [Path(stem).name for stem in watcher.jobs(10)] == ["a", "b"]
    assert watcher.jobs(100) == []


@pytest.mark.parametrize("inputs", [("in", "mics.star"), ("mics.star", "in")])
def test_a_file_of_a_folder_and_a_list_is_as_the_list_has_it(
    inputs: tuple[str, str], watch: Watch, put: Put, project: Path
) -> None:
    put("in/a.mrc", "in/b.mrc")
    Path("mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{project}/in/a.mrc 1.5\n")
    given = [job for job in watch(*inputs).run(10) if isinstance(job, Job)]
    assert [(job.name, job.pixel_size_A) for job in given] == [(f"{project}/in/a.mrc", 1.5), ("in/b.mrc", None)]


def test_a_folder_does_not_wait_for_a_list_that_is_not_there_or_changes_later(
    watch: Watch, put: Put, clock: Any
) -> None:
    put("in/a.mrc")
    watcher = watch("in", "mics.star")
    assert watcher.jobs(5) == ["a"]
    clock.write(Path("mics.star"), b"data_\nloop_\n_rlnMicrographName\nin/a.mrc\n")
    assert watcher.jobs(10) == []
    for second in range(1, 10):
        clock.at(clock.now + second, lambda: clock.write(Path("mics.star"), b"#", Path("mics.star").stat().st_size))
    put("in/b.mrc")
    assert watcher.jobs(5) == ["b"]


def test_a_sum_that_a_list_names_is_given_though_a_folder_has_a_better_one(
    watch: Watch, put: Put, project: Path
) -> None:
    put("in/a.mrc", "in/a_DW.mrc")
    Path("mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n{project}/in/a.mrc\n")
    assert [Path(stem).name for stem in watch("in", "mics.star").jobs(10)] == ["a", "a_DW"]


def test_names_choose_among_the_files(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "in/a_noDW.mrc", "in/a_PS.mrc", "in/b.mrc", "in/b_c.mrc")
    names = Names(include=("A*", "*_c.mrc"))
    watcher = watch("in", names=names)
    assert watcher.jobs(10) == ["a", "b_c"]
    assert watcher.source.excluded == 3
    assert watch("in/a_PS.mrc").jobs(10) == ["a_PS"]


def test_links_to_folders_are_counted_and_not_followed(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "other/b.mrc")
    Path("in/loop").symlink_to(Path("in").absolute())
    Path("in/out").symlink_to(Path("other").absolute())
    Path("in/text").symlink_to(Path("other/b.mrc").absolute())
    watcher = watch("in", recursive=True)
    assert watcher.jobs(10) == ["a"]
    assert watcher.source.links == 2


def test_a_folder_may_come_later_and_come_back(watch: Watch, put: Put) -> None:
    watcher = watch("in", "in2/*/*.mrc")
    assert not watcher.run(100)
    assert [notice.path for notice in watcher.notices] == ["in", "in2"]
    put("in/a.mrc", "in2/x/b.mrc")
    assert watcher.jobs(4) == ["a", "x/b"]
    Path("in").rename("away")
    assert watcher.jobs(50) == []
    Path("away").rename("in")
    put("in/c.mrc")
    assert watcher.jobs(5) == ["c"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_reported_once_and_tried_ever_less_often(
    watch: Watch, put: Put, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    put("in/a.mrc", "in/x/b.mrc")
    tries, failing = 0, True
    really = os.scandir

    def scandir(path: str) -> Any:
        nonlocal tries
        if str(path) == "in/x" and failing:
            tries += 1
            raise OSError(number, os.strerror(number))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    watcher = watch("in", recursive=True)
    assert watcher.jobs(59) == ["a"]
    said = f"in/x: the folder cannot be listed: {os.strerror(number)}"
    assert watcher.notices[0].message == f"{said}; it is waited for, for 60 s"
    failure = watcher.failure(241)
    assert (failure.path, failure.kind, failure.message) == ("in/x", "UnreadableError", said)
    assert 10 <= tries <= 16
    failing = False
    assert watcher.jobs(34) == ["x/b"]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function after which some files and folders cannot be looked at, until others are
    named.
    """
    names: tuple[str, ...] = ()
    stat, scandir = os.stat, os.scandir

    def refusing(really: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path) in names:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
            return really(path, *arguments, **options)

        return call

    def refuse(*chosen: str) -> None:
        nonlocal names
        names = chosen

    monkeypatch.setattr(os, "stat", refusing(stat))
    monkeypatch.setattr(os, "scandir", refusing(scandir))
    return refuse


@pytest.fixture
def watch_three(watch: Watch, put: Put) -> Callable[..., Any]:
    """A function that watches a folder, one below it and a list, whose micrographs have all been
    given.
    """

    def begin(stop_after_idle_s: float) -> Any:
        put("in/a.mrc", "in/x/b.mrc", "c.mrc")
        Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nc.mrc\n")
        watcher = watch("in", "mics.star", recursive=True, stop_after_idle_s=stop_after_idle_s)
        assert watcher.jobs(10) == ["c", "a", "x/b"]
        return watcher

    return begin


@pytest.mark.parametrize("name", ["in", "in/x", "mics.star"])
def test_what_cannot_be_looked_at_for_a_moment_is_told_and_no_failure(
    name: str, watch_three: Callable[..., Any], clock: Any, away: Callable[..., None]
) -> None:
    watcher = watch_three(stop_after_idle_s=300)
    before = len(watcher.notices)
    away(name)
    clock.at(clock.now + 20, away)
    assert watcher.jobs(1000) == []
    assert watcher.ended
    notice = watcher.notices[before]
    assert (notice.path, notice.kind) == (name, "Waiting")
    assert notice.message.endswith(": Stale file handle; it is waited for, for 60 s")


@pytest.mark.parametrize("name", ["in", "in/x", "mics.star"])
def test_what_cannot_be_looked_at_in_the_end_is_a_failure(
    name: str, watch_three: Callable[..., Any], clock: Any, away: Callable[..., None]
) -> None:
    watcher = watch_three(stop_after_idle_s=20)
    away(name)
    failure = watcher.failure(1000)
    assert (watcher.ended, failure.path, failure.kind) == (True, name, "UnreadableError")
    assert clock.now < 60


def test_searches_become_rarer_when_they_are_slow(
    watch: Watch, clock: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/a.mrc")
    searches = []
    really = os.scandir

    def scandir(path: str) -> Any:
        searches.append(clock.now)
        clock.now += 0.5
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    watch("in").jobs(50)
    assert 9 <= len(searches) <= 10


def test_the_watcher_ends_when_nothing_has_come_for_so_long(watch: Watch, clock: Any, put: Put, small: bytes) -> None:
    put("in/a.mrc")
    clock.write(Path("in/b.mrc"), small[:-1])
    clock.at(65, lambda: put("in/c.mrc"))
    watcher = watch("in", stop_after_idle_s=10)
    given = watcher.run(1000)
    assert watcher.ended
    assert [str(arrival.stem) for arrival in given] == ["a", "b"]  # b does not change: it is reported at the end
    assert 10 <= clock.now <= 15


def test_the_watcher_does_not_end_while_a_job_is_in_hand(watch: Watch, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch("in", stop_after_idle_s=5)
    (job,) = watcher.run(100, done=False)
    assert not watcher.ended
    watcher.source.done(job)
    watcher.run(6)
    assert watcher.ended


def test_what_has_come_while_the_machine_was_asleep_is_found_before_an_idle_watcher_ends(
    watch: Watch, clock: Any, put: Put
) -> None:
    put("in/a.mrc")
    watcher = watch("in", stop_after_idle_s=10)
    assert watcher.jobs(5) == ["a"]
    put("in/b.mrc")
    clock.now += 3600
    assert watcher.jobs(100) == ["b"]
    assert watcher.ended


def test_a_watcher_that_stops_when_idle_at_once_gives_what_is_there(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "in/b.mrc")
    watcher = watch("in", stop_after_idle_s=0)
    assert watcher.jobs(100) == ["a", "b"]
    assert watcher.ended


def test_the_watcher_ends_after_so_many_jobs_and_gives_no_more(watch: Watch, put: Put) -> None:
    put(*(f"in/{number}.mrc" for number in range(5)))
    watcher = watch("in", until=3)
    jobs = watcher.run(20, done=False)
    assert len(jobs) == 3
    watcher.source.again(jobs[0], 0)
    (other,) = watcher.run(20, done=False)  # in its place
    for job in (*jobs[1:], other):
        watcher.source.done(job)
    assert watcher.run(20) == []
    assert watcher.ended


def test_the_iteration_can_be_broken_off_and_go_on(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "in/b.mrc")
    source = watch("in", stop_after_idle_s=1).source

    def next_job(arrivals: Iterator[Any]) -> str:
        return next(str(arrival.stem) for arrival in arrivals if arrival is not None)

    assert next_job(iter(source)) == "a"
    assert next_job(iter(source)) == "b"


def test_settling_takes_as_long_as_is_asked_for(watch: Watch, put: Put) -> None:
    put("in/a.mrc")
    watcher = watch("in", timing=Timing(settle_s=7.5))
    assert watcher.jobs(7.4) == []
    assert watcher.jobs(0.3) == ["a"]


def test_the_watcher_lives_by_the_real_clock_too(put: Put) -> None:
    put("in/a.mrc")
    source = Watched(["in"], timing=Timing(settle_s=0.01, poll_s=0.01), until=1)
    given = []
    for arrival in source:
        if isinstance(arrival, Job):
            given.append(str(arrival.stem))
            source.done(arrival)
    assert given == ["a"]


def with_margin(image: bytes, part: str) -> bytes:
    """The image with only zeros at the beginning or end of its pixels, or at both."""
    pixels, margin = image[1024:], 1 << 17
    if part != "end":
        pixels = bytes(margin) + pixels[margin:]
    if part != "beginning":
        pixels = pixels[:-margin] + bytes(margin)
    return image[:1024] + pixels


@pytest.mark.parametrize("part", ["beginning", "end", "both"])
def test_a_black_margin_is_picked_when_it_has_stayed_for_a_while(
    watch: Callable[..., Any], clock: Any, image: bytes, part: str
) -> None:
    clock.write(Path("a.mrc"), with_margin(image, part))
    watcher = watch("a.mrc")
    assert watcher.jobs(9.7) == []
    assert watcher.jobs(0.6) == ["a"]


def test_space_that_was_reserved_and_not_written_is_waited_for_as_long_as_for_the_rest(
    watch: Callable[..., Any], clock: Any, image: bytes
) -> None:
    with Path("a.mrc").open("wb") as file:
        file.write(image[: len(image) // 2])
        file.truncate(len(image))
    clock.touch(Path("a.mrc"))
    watcher = watch("a.mrc")
    assert watcher.jobs(59.5) == []
    assert watcher.jobs(1) == ["a"]


def test_a_margin_that_changes_is_no_margin(watch: Callable[..., Any], clock: Any, image: bytes) -> None:
    clock.write(Path("a.mrc"), with_margin(image, "end"))
    watcher = watch("a.mrc")
    clock.at(8, lambda: clock.write(Path("a.mrc"), image))
    assert watcher.jobs(9.5) == []
    assert watcher.jobs(1) == ["a"]


def test_a_movie_that_came_first_does_not_keep_its_sum_out(watch: Callable[..., Any], put: Callable[..., None]) -> None:
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", np.ones((3, 200, 210), np.uint8), photometric="minisblack")
    watcher = watch("in")
    assert watcher.jobs(3) == ["a"]  # whoever reads it says that it is a movie
    put("in/a.mrc")
    given = watcher.run(4)
    (failure,) = (each for each in given if isinstance(each, Failure))
    assert "choose with --include '*.mrc'" in failure.message
    assert [each.path for each in given if isinstance(each, Job)] == [Path("in/a.mrc")]


def paths(given: list[Any]) -> list[str]:
    """Of jobs; nothing else may have come."""
    assert all(isinstance(each, Job) for each in given)
    return [str(each.path) for each in given]


def test_a_file_that_is_compressed_where_it_is_is_given_again_under_its_new_name_and_the_old(
    watch: Watch, clock: Any, small: bytes, put: Put
) -> None:
    put("in/a.mrc")
    watcher = watch("in")
    assert paths(watcher.run(5)) == ["in/a.mrc"]
    packed = gzip.compress(small)
    for second in range(1, 8):  # the old one stays until the new one is whole
        part = packed[: len(packed) * second // 7]
        clock.at(5 + second, lambda part=part: clock.write(Path("in/a.mrc.gz"), part))
    clock.at(12.5, Path("in/a.mrc").unlink)
    assert paths(watcher.run(20)) == ["in/a.mrc.gz"]
    put("in/a.mrc")
    Path("in/a.mrc.gz").unlink()
    assert paths(watcher.run(20)) == ["in/a.mrc"]
    assert watcher.run(100) == []


@pytest.mark.parametrize("at", [1, 4])
def test_a_file_is_given_that_replaces_another_which_is_awaited_or_in_hand(
    at: float, watch: Watch, clock: Any, put: Put
) -> None:
    put("in/a.mrc")
    clock.at(at, lambda: Path("in/a.mrc").rename("in/a.mrcs"))
    watcher = watch("in")
    given = watcher.run(10, done=False)
    if at == 4:
        (first,) = given
        watcher.source.done(first)
        given = watcher.run(10)
    assert paths(given) == ["in/a.mrcs"]


def test_a_file_that_was_refused_is_given_when_the_other_is_gone_after_it_was_given(
    watch: Watch, clock: Any, put: Put
) -> None:
    put("in/a.mrc", "in/a.mrcs")
    watcher = watch("in")
    given = watcher.run(10)
    assert [type(each) for each in given] == [Job, Failure]
    Path("in/a.mrc").unlink()
    assert paths(watcher.run(20)) == ["in/a.mrcs"]


def test_a_file_that_was_refused_is_judged_again_when_asked_for(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "other/a.mrc")
    watcher = watch("in", "other")
    (failure,) = (each for each in watcher.run(10) if isinstance(each, Failure))
    watcher.source.retry(failure.stem)
    assert watcher.failure(20) == failure
    assert watcher.run(100) == []


def test_another_file_of_the_same_outputs_does_not_replace_one_that_is_out_of_reach(watch: Watch, put: Put) -> None:
    put("in/a.mrc", "other/a.mrc")
    watcher = watch("in", "other")
    assert [str(each.path) for each in watcher.run(10) if isinstance(each, Job)] == ["in/a.mrc"]
    Path("in").rename("unmounted")
    Path("in").mkdir()
    assert watcher.run(100) == []
    Path("in").rmdir()
    Path("unmounted").rename("in")
    assert watcher.run(100) == []


@pytest.mark.parametrize("first", ["in/a.tif", "in/a.mrc"])
def test_a_movie_does_not_replace_its_sum_that_is_picked_and_cleared_away(first: str, watch: Watch, put: Put) -> None:
    put("in/a.mrc")
    tifffile.imwrite("in/a.tif", np.ones((3, 200, 210), np.uint8), photometric="minisblack")
    watcher = watch(first, "in")
    assert Path("in/a.mrc") in [each.path for each in watcher.run(20) if isinstance(each, Job)]
    Path("in/a.mrc").unlink()
    assert watcher.run(100) == []


def test_a_sum_is_given_that_comes_while_its_movie_is_in_hand(watch: Watch, put: Put) -> None:
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", np.ones((3, 200, 210), np.uint8), photometric="minisblack")
    watcher = watch("in")
    (movie,) = watcher.run(5, done=False)
    put("in/a.mrc")
    assert watcher.run(10) == []
    watcher.source.done(movie)
    assert Path("in/a.mrc") in [each.path for each in watcher.run(20) if isinstance(each, Job)]
