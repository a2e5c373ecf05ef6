"""What counts as a change of a file."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gtpick_rt.arrivals.stamp import Stamp, stamp_of


@pytest.fixture
def before(tmp_path: Path) -> Stamp:
    (tmp_path / "a").write_text("x")
    return stamp_of(tmp_path / "a")


def test_a_replacement_of_the_same_size_and_time_is_a_change(before: Stamp, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("y")
    os.utime(tmp_path / "b", ns=(before.mtime_ns, before.mtime_ns))
    (tmp_path / "b").replace(tmp_path / "a")
    assert not stamp_of(tmp_path / "a").is_still(before)


@pytest.mark.parametrize("change", [{"size": 2}, {"mtime_ns": 2}, {"inode": 2, "ctime_ns": 2}])
def test_another_size_or_time_or_both_signs_of_a_replacement_are_a_change(
    change: dict[str, int], before: Stamp
) -> None:
    assert not replace(before, **change).is_still(before)


@pytest.mark.parametrize("change", [{}, {"inode": 2}, {"ctime_ns": 2}])
def test_an_inode_that_a_mount_makes_up_anew_or_another_mode_is_none(change: dict[str, int], before: Stamp) -> None:
    assert replace(before, **change).is_still(before)


def test_of_an_earlier_run_size_and_time_are_compared(before: Stamp) -> None:
    assert before.is_still(Stamp(before.size, before.mtime_ns))
    assert not before.is_still(Stamp(before.size, before.mtime_ns + 1))
    assert not before.is_still(None)
