"""The spec of a small model, and a Slurm cluster.

No test is judged by its time, which tells more of the machine.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from gtpick_rt.models.spec import ModelSpec

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell begins in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


TOGETHER = ("tests/export/", "tests/runtime/cluster/", "tests/benchmarks/cluster/")
"""Tests that share what is dear to make, or a machine's Slurm: one process runs all of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first, lest all wait for it at the end."""
    items.sort(key=lambda item: "test_packaging.py" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, where several run tests side by side."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in TOGETHER if file.startswith(folder)), file)

    return ByFile(config, log)


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        name="test-model",
        version="1",
        tile_px=256,
        margin_px=32,
        queries=256,
        diameter_px=24,
        diameter_range_px=(10, 36),
        highpass_px=97,
        clip=6,
        merge_distance=0.5,
        threshold=0.4,
        floor=0.05,
    )


@pytest.fixture
def rig() -> ModuleType:
    """The module that starts Slurm; skips where it cannot."""
    from benchmarks.cluster import slurm_cluster

    if reason := slurm_cluster.reason_to_skip():
        pytest.skip(reason)
    return slurm_cluster


@pytest.fixture
def slurm(rig: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A running cluster of two nodes."""
    with rig.slurm_cluster(tmp_path / "slurm") as slurm:
        yield slurm
