"""The log of a run: every line that is appended stands by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gtpick_rt.output.runlog import append_entry, end_shards


def of_run(log: Path) -> None:
    append_entry(log, {"state": "b"})


def of_shards(log: Path) -> None:
    shards = log.with_name("shards")
    shards.mkdir()
    append_entry(shards / "1-of-2.jsonl", {"state": "b"})
    end_shards(shards, log)


@pytest.mark.parametrize("append", [of_run, of_shards])
@pytest.mark.parametrize("before", ["", "a\n", "a\nto", "to"])
def test_a_torn_line_is_ended_before_another_is_appended(
    before: str, append: Callable[[Path], None], tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(before)
    append(log)
    *earlier, appended = log.read_text().splitlines()
    assert earlier == before.splitlines()
    assert appended.startswith('{"time": ')
    assert appended.endswith('"state": "b"}')
