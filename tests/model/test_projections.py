"""Projections are made once: read again for the same structures, made anew for others or when
damaged.
"""

from pathlib import Path

import pytest
import torch

from gtpick_model import tiles
from gtpick_model.projections import kept_libraries
from gtpick_model.simulator.views import ViewLibrary

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
