"""One bad item stops nothing: each kind of bad item is put into each way in."""

import pytest

from benchmarks.faults.bad_files import FILES, ROWS
from benchmarks.faults.bad_items import try_way
from benchmarks.faults.bad_outputs import OUTPUTS
from benchmarks.faults.bad_ways import ARRIVALS, FINISHED, NAMED, PICKED


def test_there_are_forty_kinds_of_items_or_more_for_each_way() -> None:
    assert min(len(FILES), len(OUTPUTS)) >= 40
    assert ROWS


@pytest.mark.parametrize("way", [*ARRIVALS, *FINISHED])
def test_a_bad_item_is_the_failure_of_itself_alone(way: str) -> None:
    row = try_way(way)
    assert row.flaws == []
    assert len(row.cells) >= 40
    outcomes = {cell.outcome for cell in row.cells.values()}
    assert NAMED in outcomes or PICKED in outcomes
