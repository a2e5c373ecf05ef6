"""A process can end at any moment."""

from collections.abc import Callable
from typing import Any

KILLS = 100


def test_nothing_is_lost_or_done_twice_whenever_runs_are_killed(run_benchmark: Callable[..., dict[str, Any]]) -> None:
    result = run_benchmark("kill.py", "--kills", KILLS)
    assert result["kills"] == KILLS
    assert result["crash_points"] > 100
    assert result["micrographs"] >= KILLS / 4
