"""A profiler shows the steps of a micrograph, where nvtx is installed, and only there."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.detection.picker import Picker
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline import profiling
from gtpick_rt.pipeline.threads import run, settings_of


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a profiler would show: the ends of ranges, in their order."""
    seen: list[str] = []

    @contextmanager
    def annotate(message: str, *, domain: str) -> Iterator[None]:
        assert domain == "gtpick-rt"
        yield
        seen.append(message)

    profiling._nvtx.cache_clear()
    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))  # type: ignore[arg-type]
    yield seen
    profiling._nvtx.cache_clear()


def pick(folder: Path, picker: Picker) -> None:
    with OutputFolder(folder / "out") as output:
        summary = run(Listed(find_jobs([folder / "in"]).jobs), picker, output, settings_of(picker))
    assert summary.picked == 1


@pytest.fixture
def folder(tmp_path: Path, save_mrc, dots) -> Path:  # type: ignore[no-untyped-def]
    save_mrc(tmp_path / "in" / "a.mrc", dots(np.float32([[71, 39]]), (128, 192)).data)
    return tmp_path


def test_each_step_of_a_micrograph_is_shown(folder: Path, dot_picker: Picker, shown: list[str]) -> None:
    pick(folder, dot_picker)
    assert shown == ["read", "preprocess", "submit", "collect", "decode", "commit", "write"]


def test_without_the_package_nothing_is_shown_and_all_is_picked(
    folder: Path, dot_picker: Picker, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    pick(folder, dot_picker)
    assert not shown
