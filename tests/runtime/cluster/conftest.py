"""Real workers in processes of their own, which pick small micrographs with a tiny model."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="needs Dask: the extra cluster")

from distributed import WorkerPlugin  # noqa: E402

from gtpick_rt.arrivals import opening  # noqa: E402
from gtpick_rt.arrivals.jobs import find_jobs  # noqa: E402
from gtpick_rt.arrivals.listed import Listed, compare  # noqa: E402
from gtpick_rt.cluster import driver  # noqa: E402
from gtpick_rt.cluster.pool import WorkerPool  # noqa: E402
from gtpick_rt.cluster.specs import LocalWorkers  # noqa: E402
from gtpick_rt.cluster.starting import workers_at  # noqa: E402
from gtpick_rt.output.folder import OutputFolder  # noqa: E402
from gtpick_rt.output.summary import Summary  # noqa: E402
from gtpick_rt.pipeline.threads import settings_of  # noqa: E402
from gtpick_rt.proof.opening import open_picker  # noqa: E402
from gtpick_rt.types import FloatArray, Micrograph  # noqa: E402

PLACES = np.array([[71, 39], [151, 87]], np.float32)
DIAMETER_A, THRESHOLD = 24.0, 0.9


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """Two workers on this machine."""
    with workers_at(LocalWorkers(2), tmp_path_factory.mktemp("jobs")) as pool:
        yield pool


def wait_for_both(pool: WorkerPool) -> None:
    until = time.monotonic() + 60
    while len(pool.client.nthreads()) < 2:
        assert time.monotonic() < until, "a worker was not replaced"
        pool.replenish()
        time.sleep(0.1)


@dataclass
class Site:
    """A folder of micrographs, each with two dots, and where they are picked to."""

    images: Path
    out: Path
    model: Path

    def run(self, pool: WorkerPool, **options: Any) -> Summary:
        """Pick what is not picked yet."""
        picker = open_picker(DIAMETER_A, model=str(self.model), backend="cpu")
        settings = settings_of(picker, THRESHOLD)
        with OutputFolder(self.out) as output:
            jobs = compare(find_jobs([str(self.images)]).jobs, output.finished).todo
            source = options.pop("source", None) or Listed(jobs)
            return driver.run(pool, source, picker, output, settings, model=str(self.model), backend="cpu", **options)

    def picked(self) -> list[str]:
        """The names of the micrographs that have a STAR file."""
        return sorted(path.name.removesuffix("_autopick.star") for path in self.out.glob("*_autopick.star"))


@pytest.fixture
def site(
    tmp_path: Path, tiny_model: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]
) -> Callable[[int], Site]:
    """A function that makes a site with so many micrographs."""

    def make(count: int) -> Site:
        first = save_mrc(tmp_path / "in" / "m000.mrc", dots(PLACES, (128, 192)).data)
        for number in range(1, count):
            shutil.copy(first, first.with_name(f"m{number:03}.mrc"))
        return Site(tmp_path / "in", tmp_path / "out", tiny_model)

    return make


class Misfortune(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """Something happens in a worker when it reads a micrograph of this name; it comes back with the
    worker.
    """

    name = "misfortune"

    def __init__(self, stem: str, what: str, calls: Path) -> None:
        self.stem, self.what, self.calls = stem, what, calls

    def setup(self, worker: Any) -> None:
        self.really = opening.read_micrograph

        def read(path: Path, *arguments: Any, **options: Any) -> Micrograph:
            with self.calls.open("a") as file:
                file.write(f"{path.stem}\n")
            if path.stem == self.stem:
                self.strike(path)
            return self.really(path, *arguments, **options)

        opening.read_micrograph = read

    def teardown(self, worker: Any) -> None:
        opening.read_micrograph = self.really

    def strike(self, path: Path) -> None:
        times = self.calls.read_text().split().count(self.stem)
        if self.what == "kill" or (self.what == "kill once" and times == 1):
            os.kill(os.getpid(), 9)
        elif self.what == "hang":
            time.sleep(600)
        elif self.what == "EIO once" and times == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        elif self.what == "ENOENT":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        elif self.what == "change once" and times == 1:
            os.utime(path)


@pytest.fixture
def misfortune(pool: WorkerPool, tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """A function that lets something happen; gives the file in which each reading is noted."""
    calls = tmp_path / "calls"
    arranged: list[Misfortune] = []

    def arrange(stem: str, what: str) -> Path:
        arranged.append(Misfortune(stem, what, calls))
        pool.register(arranged[-1])
        return calls

    yield arrange
    wait_for_both(pool)
    for each in arranged:
        pool.unregister(each)
