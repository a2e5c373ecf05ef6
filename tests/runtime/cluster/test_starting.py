"""Workers are started where they are asked for, and nobody else gets in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.cluster import pool as crew_module
from gtpick_rt.cluster import starting
from gtpick_rt.cluster.pool import WorkerPool
from gtpick_rt.cluster.specs import ExistingScheduler, LocalGpus
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.errors import UsageError
from gtpick_rt.pipeline.bookkeeping import Listeners

MakeSite = Callable[[int], Any]


def listening(pid: int) -> set[str]:
    """The addresses that a process listens on, by what the kernel says."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def test_nothing_listens_beyond_this_machine_and_dask_itself_only_with_the_key(pool: WorkerPool) -> None:
    workers, nannies = pool.client.run(os.getpid), pool.client.run(os.getppid)
    assert len(workers) == 2
    for pid in {os.getpid(), *workers.values(), *nannies.values()}:
        assert listening(pid) <= {"0100007F"}  # 127.0.0.1
    assert all(address.startswith("tls://127.0.0.1:") for address in workers)
    with pytest.raises(OSError):
        Client(pool.client.scheduler.address, timeout=3, security=Security.temporary())


def test_workers_share_the_cores(pool: WorkerPool, site: MakeSite) -> None:
    site(4).run(pool)
    cores = pool.client.run(lambda: sorted(os.sched_getaffinity(0)))
    shares = list(cores.values())
    ours = os.sched_getaffinity(0)
    assert set().union(*shares) == ours
    if len(ours) > 1:
        assert not set(shares[0]) & set(shares[1])


@pytest.fixture
def started() -> list[subprocess.Popen[bytes]]:
    """The processes of `scheduler`, itself the first."""
    return []


@pytest.fixture
def scheduler(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> Iterator[Path]:
    """A scheduler and a worker that somebody has started; the file in which it keeps
    its address.
    """
    file = tmp_path / "scheduler.json"
    run = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    run += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "2"]
    work += ["--dashboard-address", "127.0.0.1:0", "--name", "theirs"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = started
    processes += [subprocess.Popen(run, cwd=tmp_path, **quiet)]  # type: ignore[call-overload]
    try:
        while not file.exists() or not file.stat().st_size:
            assert processes[0].poll() is None
        processes.append(subprocess.Popen(work, cwd=tmp_path, **quiet))  # type: ignore[call-overload]
        yield file
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def test_the_workers_of_a_scheduler_that_runs_pick_one_run_after_the_other(
    scheduler: Path, site: MakeSite, tmp_path: Path
) -> None:
    here = site(4)
    with workers_at(ExistingScheduler(str(scheduler)), tmp_path) as pool:
        assert here.run(pool).totals.micrographs == 4
    (here.images / "m000.mrc").rename(here.images / "new.mrc")
    with workers_at(ExistingScheduler(json.loads(scheduler.read_text())["address"]), tmp_path) as pool:
        summary = here.run(pool)
    assert (summary.picked, [worker.name for worker in summary.workers]) == (1, ["theirs"])


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_CONNECT_S", 1)
    nobody = workers_at(ExistingScheduler("tcp://127.0.0.1:1"), tmp_path)
    with pytest.raises(UsageError, match="the workers cannot be reached"), nobody:
        pass


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="gtpick-rt")


def test_the_command_picks_in_workers(site: MakeSite) -> None:
    here = site(5)
    common = ("pick", here.images, "--out", here.out, "--diameter", 24, "--model", here.model, "--threshold", 0.9)
    done = invoke(*common, "--backend", "cpu", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "5 micrographs picked" in done.output
    written = json.loads((here.out / "summary.json").read_text())
    assert sum(worker["micrographs"] for worker in written["workers"]) == 5
    again = invoke(*common)
    assert "going on: 5 micrographs picked already" in again.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--workers", "2", "--gpus", "0"), "--workers and --gpus: choose one of them"),
        (("--shard", "1/2", "--cluster", "slurm"), "--cluster and --shard: choose one of them"),
        (("--cluster", "pbs"), "--cluster pbs: slurm is known"),
        (("--partition", "gpu"), "go with --cluster slurm"),
        (("--workers", "0"), "--workers 0: give 1 or more"),
    ],
)
def test_ways_that_do_not_go_together_are_refused(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = invoke("pick", tmp_path, "--out", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_dasks_own_page_is_named_where_it_can_be_shown(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "find_spec", lambda name: None)
    assert pool.dashboard == ""
    monkeypatch.setattr(crew_module, "find_spec", lambda name: name == "bokeh")
    assert pool.dashboard.startswith("http://127.0.0.1:")


def test_when_the_scheduler_is_lost_the_run_ends_and_says_so(
    started: list[subprocess.Popen[bytes]],
    scheduler: Path,
    site: MakeSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(starting.CONFIG, "distributed.comm.timeouts.connect", "2s")
    monkeypatch.setattr(starting, "_CONNECT_S", 3)
    here = site(100)
    lose = Listeners(done=lambda record: started[0].kill())
    theirs = workers_at(ExistingScheduler(str(scheduler)), tmp_path)
    with pytest.raises(UsageError, match=r"the cluster gave it up|cannot be reached"), theirs as pool:
        here.run(pool, listeners=lose)
    assert 1 <= len(here.picked()) < 100
    assert (here.out / "summary.json").exists()


@pytest.mark.parametrize(("cores", "ids", "threads"), [(16, (0, 1), 8), (64, (0, 1), 12), (4, (0, 1, 2), 2)])
def test_each_gpu_has_the_threads_of_its_share_of_the_cores(
    cores: int, ids: tuple[int, ...], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "usable_cores", lambda: cores)
    monkeypatch.setattr(starting, "_local", lambda environments, threads: (environments, threads))
    environments, found = starting._workers(LocalGpus(ids), tmp_path)  # type: ignore[misc]
    assert list(environments) == [f"gpu{n}" for n in ids]
    assert found == threads


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, ["0", "2"]), ("4,5,6,7", ["4", "6"]), ("MIG-a,GPU-7,MIG-b", ["MIG-a", "MIG-b"])]
)
def test_gpus_are_counted_as_for_device_among_those_that_a_scheduler_has_left(
    visible: str | None, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_local", lambda environments, threads: environments)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    environments = starting._workers(LocalGpus((0, 2)), tmp_path)
    assert environments == {
        name: {"CUDA_VISIBLE_DEVICES": card, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        for name, card in zip(("gpu0", "gpu2"), seen, strict=True)
    }


def test_a_gpu_that_the_scheduler_has_not_left_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(UsageError, match=r"^GPU 2: this process sees 2 GPUs"), workers_at(LocalGpus((0, 2)), tmp_path):
        pass
