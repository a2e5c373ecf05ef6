"""Whatever bytes a file has: only our own errors come out of reading it, and no memory is taken on
its word.
"""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults import fuzz
from gtpick_rt.reading import info

CORPUS = Path(__file__).parent / "corpus"
KINDS = ("header", "mrc", "gz", "bz2", "tiff", "micrographs", "coordinates", "record")
MOST_BYTES = 32 << 20
"""That a case may take: eight times an image of the largest size, which is set to a megapixel."""


@pytest.fixture(scope="module", autouse=True)
def small_images() -> Iterator[None]:
    """The largest are a megapixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(info, "MAX_PIXELS", fuzz.MOST_PIXELS)
        yield


def try_within_memory(kind: str, data: bytes, folder: Path) -> None:
    tracemalloc.start()
    try:
        fuzz.try_case(kind, data, folder)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), max_size=4), st.floats(0, 1))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # Pillow's and tifffile's, of what they find
def test_no_damage_makes_a_reader_fail_otherwise(
    kind: str, tmp_path: Path, damage: list[tuple[float, int, bytes]], rest: float
) -> None:
    for seed in fuzz.seeds(kind):
        data = bytearray(seed)
        for place, dropped, put in damage:
            at = int(place * len(data))
            data[at : at + dropped] = put
        try_within_memory(kind, bytes(data), tmp_path)
        try_within_memory(kind, bytes(data[: int(rest * len(data))]), tmp_path)


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_broke_a_reader_breaks_it_no_more(path: Path, tmp_path: Path) -> None:
    try_within_memory(path.name.partition("-")[0], path.read_bytes(), tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"size": 10**30}, {"stem": ["a"]}, {"name": {}}, {"flags": [1]}, {"mtime_ns": "x"}, {"path": "\ud800"}]
)
def test_a_record_of_wrong_types_is_none_of_ours(wrong: dict[str, Any], tmp_path: Path) -> None:
    record = {**fuzz.RECORD, "record": {**fuzz.RECORD["record"], **wrong}}
    star = fuzz.picks_to_star(fuzz.Picks.empty(), json.dumps(record))
    try_within_memory("record", star.encode(), tmp_path)


def test_a_record_of_many_brackets_is_none_of_ours(tmp_path: Path) -> None:
    star = fuzz.picks_to_star(fuzz.Picks.empty(), "[" * 60_000)
    try_within_memory("record", star.encode(), tmp_path)
