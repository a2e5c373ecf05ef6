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


def test_the_same_structures_are_projected_once(tmp_path: Path, made: list[int], split: Split) -> None:
    for _ in range(2):
        found = kept_libraries(tmp_path / "run" / "kept.safetensors", None, 12)
        for one, other in zip(found, split, strict=True):
            assert one.names == other.names
            for name in ("extent_A", "views", "half_views"):
                assert torch.equal(getattr(one, name), getattr(other, name))
    assert made == [12]


def test_other_structures_are_projected_anew(tmp_path: Path, made: list[int]) -> None:
    kept, folder = tmp_path / "kept.safetensors", tmp_path / "structures"
    folder.mkdir()
    (folder / "a.mrc").write_bytes(b"one")
    for structures, procedurals in ((None, 12), (None, 13), (folder, 13), (folder, 13)):
        kept_libraries(kept, structures, procedurals)
    assert made == [12, 13, 13]
    (folder / "a.mrc").write_bytes(b"two")
    kept_libraries(kept, folder, 13)
    assert len(made) == 4


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"no safetensors at all"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, made: list[int], content: bytes) -> None:
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(content)
    kept_libraries(kept, None, 12)
    kept_libraries(kept, None, 12)
    assert made == [12]
