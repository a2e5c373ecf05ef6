"""The power can go at any moment, and with it what was not synced."""

from collections.abc import Callable
from typing import Any

CUTS = 100


def test_what_was_committed_outlasts_a_power_cut_and_the_next_run_goes_on(
    run_benchmark: Callable[..., dict[str, Any]],
) -> None:
    result = run_benchmark("power_cut.py", "--cuts", CUTS)
    assert result["cuts"] == CUTS
    assert result["committed"] > CUTS / 2
