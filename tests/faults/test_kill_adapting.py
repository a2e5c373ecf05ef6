"""A run whose network adapts itself can end at any moment."""

from collections.abc import Callable
from typing import Any

KILLS = 8


def test_nothing_is_lost_and_no_model_mixed_whenever_adapting_watchers_are_killed(
    run_benchmark: Callable[..., dict[str, Any]],
) -> None:
    result = run_benchmark("kill_adapting.py", "--kills", KILLS)
    assert (result["kills"], result["folders"]) == (KILLS, 1)
