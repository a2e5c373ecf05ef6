"""Projections are made once: read again for the same structures, made anew for others or when
damaged.
"""

import os
from pathlib import Path

import pytest
import torch

from gtpick_model import projections, tiles
from gtpick_model.projections import kept_libraries
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.files.shared import names_in

Split = tuple[ViewLibrary, ViewLibrary]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, split: Split) -> list[int]:
    """How many procedural structures each projection was of."""
    calls: list[int] = []

    def project(folder: Path | None, procedurals: int) -> Split:
        calls.append(procedurals)
        return split

    monkeypatch.setattr(tiles, "libraries", project)
    return calls


def ignore(line: str) -> None:
    pass


def test_the_same_structures_are_projected_once(cache: Path, made: list[int], split: Split) -> None:
    for _ in range(2):
        found = kept_libraries(None, 12, ignore)
        for one, other in zip(found, split, strict=True):
            assert one.names == other.names
            for name in ("extent_A", "views", "half_views"):
                assert torch.equal(getattr(one, name), getattr(other, name))
    assert made == [12]
    assert len(list(cache.iterdir())) == 1


def test_other_structures_are_projected_anew_and_kept_beside_the_others(tmp_path: Path, made: list[int]) -> None:
    folder = tmp_path / "structures"
    folder.mkdir()
    (folder / "a.mrc").write_bytes(b"one")
    for structures, procedurals in ((None, 12), (None, 13), (folder, 13), (folder, 13), (None, 12)):
        kept_libraries(structures, procedurals, ignore)
    assert made == [12, 13, 13]
    (folder / "a.mrc").write_bytes(b"two")
    kept_libraries(folder, 13, ignore)
    assert len(made) == 4


def test_those_of_the_five_sets_used_last_stay(cache: Path, made: list[int]) -> None:
    for procedurals in (1, 2, 3, 4, 5, 1, 6, 1, 2):
        kept_libraries(None, procedurals, ignore)
        for path in cache.iterdir():  # as if that had been a minute ago
            stamp = path.stat().st_mtime - 60
            os.utime(path, (stamp, stamp))
    assert made == [1, 2, 3, 4, 5, 6, 2]
    assert len(list(cache.iterdir())) == 5


def test_what_a_killed_process_has_left_half_written_is_removed_too(cache: Path, made: list[int]) -> None:
    cache.mkdir(parents=True)
    (cache / ".7-ab.tmp").touch()
    os.utime(cache / ".7-ab.tmp", (0, 0))
    for procedurals in range(5):
        kept_libraries(None, procedurals, ignore)
    assert all(path.suffix == ".safetensors" for path in cache.iterdir())


def test_two_processes_may_remove_the_same_at_once(
    cache: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for procedurals in range(5):
        kept_libraries(None, procedurals, ignore)

    def listed(folder: Path, pattern: str) -> list[Path]:
        found = names_in(folder, pattern)
        min(found, key=lambda path: path.stat().st_mtime_ns).unlink()  # by the other, meanwhile
        return found

    monkeypatch.setattr(projections, "names_in", listed)
    told: list[str] = []
    kept_libraries(None, 5, told.append)
    assert not told
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"no safetensors at all"])
def test_a_damaged_file_is_made_anew(cache: Path, made: list[int], content: bytes) -> None:
    kept_libraries(None, 12, ignore)
    (kept,) = cache.iterdir()
    kept.write_bytes(content)
    kept_libraries(None, 12, ignore)
    kept_libraries(None, 12, ignore)
    assert made == [12, 12]


def test_where_nothing_can_be_kept_that_is_told_and_each_run_projects(cache: Path, made: list[int]) -> None:
    cache.parent.mkdir()
    cache.touch()
    told: list[str] = []
    for _ in range(2):
        kept_libraries(None, 12, told.append)
    assert made == [12, 12]
    assert len(told) == 2
    assert f"the projections cannot be kept ({cache} is no folder); the next run projects again" in told[0]
