"""The sums of one movie with and without dose weighting are one micrograph, however they are
named and met.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtpick_rt.arrivals.folders import Names
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.stamp import stamp_of
from gtpick_rt.arrivals.sums import LeftOut, one_of_each, told
from gtpick_rt.cli.main import app
from gtpick_rt.records import PickedFrom

Put = Callable[..., None]

PAIRS = [
    ("a.mrc", "a_DW.mrc"),
    ("a.mrc", "a_dw.mrc"),
    ("a.tif", "a_DW.mrc"),
    ("a.mrc.gz", "a_DW.mrc"),
    ("a_noDW.mrc", "a.mrc"),
    ("a_noDW.mrc", "a_DW.mrc"),
    ("a_patch_aligned.mrc", "a_patch_aligned_doseweighted.mrc"),
    ("a.mrc", "a_dose_weighted.mrc"),
]


@pytest.mark.parametrize(("left", "taken"), PAIRS)
def test_of_two_sums_the_weighted_one_is_taken_whichever_is_named_first(left: str, taken: str) -> None:
    for paths in ([left, taken], [taken, left]):
        assert one_of_each(Path(path) for path in paths) == [LeftOut(left, taken)]


@pytest.mark.parametrize(
    "names",
    [
        ("a.mrc", "b_DW.mrc"),
        ("x/a.mrc", "y/a_DW.mrc"),
        ("a.mrc", "a_DW_2.mrc"),
        ("a_DW.mrc",),
        ("a.mrc", "aDW.mrc"),
        ("a_1.mrc", "a_2.mrc"),
    ],
)
def test_other_files_are_micrographs_of_their_own(names: tuple[str, ...]) -> None:
    assert one_of_each(map(Path, names)) == []


@pytest.mark.parametrize("inputs", [["in"], ["in/*.mrc"], ["in/a.mrc", "in/a_DW.mrc", "in/b.mrc"]])
def test_one_of_them_is_picked_however_they_are_named(inputs: list[str], put: Put) -> None:
    put("in/a.mrc", "in/a_DW.mrc", "in/b.mrc")
    found = find_jobs(inputs)
    assert [str(job.stem) for job in found.jobs] == ["a_DW", "b"]
    assert found.same == [LeftOut("in/a.mrc", "in/a_DW.mrc")]


def test_a_list_may_name_both(put: Put) -> None:
    put("in/a.mrc", "in/a_DW.mrc")
    Path("mics.star").write_text("data_\nloop_\n_rlnMicrographName\nin/a.mrc\nin/a_DW.mrc\n")
    assert [str(job.stem) for job in find_jobs(["mics.star"]).jobs] == ["in/a", "in/a_DW"]


def test_check_says_which_is_taken(put: Put) -> None:
    put("in/a.mrc", "in/a_DW.mrc")
    result = CliRunner().invoke(app, ["check", "in"])
    assert "1 micrograph can be picked, 0 cannot" in result.output
    assert "in/a.mrc is the same micrograph as in/a_DW.mrc, which is taken" in result.output


def test_many_are_said_in_one_line() -> None:
    line = told([LeftOut(f"{n}.mrc", f"{n}_DW.mrc") for n in range(50)])
    assert line.endswith("0.mrc is the same micrograph as 0_DW.mrc, which is taken, and 49 more like it")


@pytest.mark.parametrize("later_s", [0.0, 0.5, 0.9])
def test_a_weighted_sum_that_comes_in_time_is_given_in_place_of_the_other(
    later_s: float, watch: Callable[..., Any], clock: Any, put: Put
) -> None:
    put("in/a.mrc")
    clock.at(later_s, lambda: put("in/a_DW.mrc"))
    watcher = watch("in")
    assert watcher.jobs(60) == ["a_DW"]
    assert watcher.source.same == [LeftOut("in/a.mrc", "in/a_DW.mrc")]
    assert watcher.source.backlog == 0


def test_a_weighted_sum_that_comes_too_late_is_left_out(watch: Callable[..., Any], clock: Any, put: Put) -> None:
    put("in/a.mrc")
    clock.at(30, lambda: put("in/a_DW.mrc"))
    watcher = watch("in")
    assert watcher.jobs(60) == ["a"]
    assert watcher.source.same == [LeftOut("in/a_DW.mrc", "in/a.mrc")]


def test_a_sum_that_an_earlier_run_has_picked_stays_the_one(watch: Callable[..., Any], put: Put) -> None:
    put("in/a.mrc")
    stamp = stamp_of("in/a.mrc")
    put("in/a_DW.mrc", "in/b.mrc")
    watcher = watch("in", finished={"a": PickedFrom(stamp.size, stamp.mtime_ns)})
    assert watcher.jobs(60) == ["b"]
    found = find_jobs(["in"], finished={"a"})
    assert [str(job.stem) for job in found.jobs] == ["a", "b"]


def test_when_the_sum_that_was_taken_is_gone_another_may_come(watch: Callable[..., Any], clock: Any, put: Put) -> None:
    put("in/a.mrc")
    clock.at(1, Path("in/a.mrc").unlink)
    clock.at(30, lambda: put("in/a_DW.mrc"))
    assert watch("in").jobs(60) == ["a_DW"]


@pytest.mark.parametrize("name", ["in/a.mrc", "elsewhere.mrc"])
def test_a_sum_that_was_left_out_is_given_when_the_one_that_was_taken_goes_or_takes_its_name(
    name: str, watch: Callable[..., Any], clock: Any, put: Put
) -> None:
    put("in/a.mrc", "in/a_DW.mrc")
    clock.at(1, lambda: Path("in/a_DW.mrc").rename(name))
    watcher = watch("in")
    assert watcher.jobs(60) == ["a"]
    assert watcher.source.same == []
    assert watcher.source.backlog == 0


def test_a_sum_that_is_never_whole_keeps_the_other_out_only_as_long_as_it_is_there(
    watch: Callable[..., Any], clock: Any, put: Put, small: bytes
) -> None:
    put("in/a.mrc")
    clock.at(0.5, lambda: clock.write(Path("in/a_DW.mrc"), small[:-1]))
    watcher = watch("in")
    assert watcher.jobs(30) == []
    Path("in/a_DW.mrc").unlink()
    assert watcher.jobs(40) == ["a"]


def test_sums_that_go_one_by_one_leave_the_last_to_be_given(watch: Callable[..., Any], clock: Any, put: Put) -> None:
    put("in/a_noDW.mrc", "in/a.mrc", "in/a_DW.mrc")
    clock.at(1, Path("in/a.mrc").unlink)
    clock.at(1.5, Path("in/a_DW.mrc").unlink)
    assert watch("in", names=Names(exclude=())).jobs(60) == ["a_noDW"]
