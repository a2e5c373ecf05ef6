"""Nine ways in which programs write files: each file is given when it is whole,
and never before.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.arrivals.jobs import Job

PARTS = 12
SECONDS = 3.0
STALL_S = 4.0
"""Longer than the time to settle."""
TARGET = Path("in/a.mrc")


def append(clock: Any, data: bytes, chance: random.Random, stall: bool = False, until: int = PARTS) -> float:
    """Plan to write part after part; returns when the last one is written."""
    cuts = [len(data) * part // PARTS for part in range(PARTS + 1)]
    stalled = chance.randint(2, PARTS - 2) if stall else PARTS
    begun = chance.uniform(0, 3)
    when = begun
    for part in range(until):
        when = begun + SECONDS * (part + chance.uniform(0, 0.9)) / PARTS + (STALL_S if part >= stalled else 0)
        first, last = cuts[part : part + 2]
        clock.at(when, lambda first=first, last=last: clock.write(TARGET, data[first:last], first))
    return when


def append_with_stall(clock: Any, data: bytes, chance: random.Random) -> float:
    return append(clock, data, chance, stall=True)


def preallocate(clock: Any, data: bytes, chance: random.Random, stall: bool = False) -> float:
    def allocate() -> None:
        TARGET.touch()
        os.truncate(TARGET, len(data))
        clock.touch(TARGET)

    clock.at(0, allocate)
    return append(clock, data, chance, stall)


def preallocate_with_stall(clock: Any, data: bytes, chance: random.Random) -> float:
    return preallocate(clock, data, chance, stall=True)


def header_last(clock: Any, data: bytes, chance: random.Random) -> float:
    end = append(clock, bytes(1024) + data[1024:], chance) + chance.uniform(0, 5)
    clock.at(end, lambda: clock.write(TARGET, data[:1024]))
    return end


def rename(clock: Any, data: bytes, chance: random.Random) -> float:
    hidden = TARGET.with_name(".a.mrc.Xy12")
    end = chance.uniform(0, 3)
    for part in range(PARTS):
        size = len(data) * (part + 1) // PARTS
        clock.at(end * part / PARTS, lambda size=size: clock.write(hidden, data[:size]))
    clock.at(end, lambda: hidden.rename(TARGET))
    return end


def old_time(clock: Any, data: bytes, chance: random.Random) -> float:
    end = append(clock, data, chance)
    clock.at(end, lambda: os.utime(TARGET, (978_307_200, 978_307_200)))
    return end


def never_finish(clock: Any, data: bytes, chance: random.Random) -> None:
    append(clock, data, chance, until=PARTS // 2)


def write_nothing(clock: Any, data: bytes, chance: random.Random) -> None:
    clock.at(chance.uniform(0, 3), TARGET.touch)


WRITERS = [
    append,
    append_with_stall,
    preallocate,
    preallocate_with_stall,
    header_last,
    rename,
    old_time,
    never_finish,
    write_nothing,
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_given_when_it_is_whole_and_never_before(
    watch: Callable[..., Any], clock: Any, image: bytes, write: Callable[..., float | None], seed: int
) -> None:
    TARGET.parent.mkdir()
    whole_at = write(clock, image, random.Random(seed))
    watcher = watch("in")
    given = []
    while clock.now < 30:
        for arrival in watcher.run(0.2):
            assert isinstance(arrival, Job)
            assert TARGET.read_bytes() == image, f"read too early, at {clock.now:.1f} s"
            given.append(clock.now)
    if whole_at is None:
        assert not given
    else:
        assert len(given) == 1
        assert whole_at + 2 <= given[0] <= whole_at + 4


@pytest.mark.parametrize("years", [-2, 2])
def test_clocks_that_disagree_make_no_difference(
    watch: Callable[..., Any], clock: Any, image: bytes, years: int
) -> None:
    TARGET.parent.mkdir()
    clock.file_epoch_s = time.time() + years * 365 * 86400
    whole_at = append_with_stall(clock, image, random.Random(0))
    watcher = watch("in")
    assert watcher.jobs(whole_at + 1.9) == []
    assert watcher.jobs(2.2) == ["a"]
