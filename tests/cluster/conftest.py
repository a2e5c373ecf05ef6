"""A Slurm cluster of its own for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of benchmarks/, which is no package, that starts Slurm; skips where it cannot."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import slurm_cluster

    if reason := slurm_cluster.reason_to_skip():
        pytest.skip(reason)
    return slurm_cluster


@pytest.fixture
def slurm(rig: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A running cluster of two nodes."""
    with rig.slurm_cluster(tmp_path / "slurm") as slurm:
        yield slurm
