"""The cluster that tests and benchmarks of Slurm start for themselves does what theirs will do,
and leaves nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _submit(slurm: Any, script: str, *options: str) -> str:
    return slurm.run("sbatch", "--parsable", *options, f"--wrap={script}")


def _states(slurm: Any) -> list[str]:
    return slurm.run("squeue", "--noheader", "--format=%t").split()


def _processes(folder: Path) -> list[int]:
    """Those that know of the cluster in this folder."""
    mark, found = f"SLURM_CONF={folder}".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_each_node_runs_a_job(slurm: Any) -> None:
    for node in slurm.nodes:
        _submit(slurm, "echo $SLURMD_NODENAME", f"--nodelist={node}", f"--output={node}.out", "--wait")
        assert (slurm.folder / f"{node}.out").read_text().strip() == node


def test_jobs_spread_over_the_nodes(slurm: Any) -> None:
    for _ in slurm.nodes:
        _submit(slurm, "sleep 1000")
    _wait(lambda: sorted(slurm.run("squeue", "--noheader", "--format=%N").split()) == list(slurm.nodes))


def test_more_jobs_run_at_once_than_the_machine_has_processors(rig: ModuleType, tmp_path: Path) -> None:
    jobs = 2 * (os.cpu_count() or 1)
    with rig.slurm_cluster(tmp_path, nodes=2, cpus=jobs // 2) as slurm:
        for _ in range(jobs):
            _submit(slurm, "sleep 1000")
        _wait(lambda: _states(slurm) == ["R"] * jobs)


def test_a_cancelled_job_ends_with_its_processes(slurm: Any) -> None:
    job = _submit(slurm, "echo $$ > started; sleep 1000")
    _wait((slurm.folder / "started").exists)
    slurm.run("scancel", job)
    _wait(lambda: not _states(slurm))
    _wait(lambda: not Path("/proc", (slurm.folder / "started").read_text().strip()).exists())
    slurm.wait_for_idle_nodes()


def test_a_requeued_job_runs_again(slurm: Any) -> None:
    runs = slurm.folder / "runs"
    job = _submit(slurm, "echo run >> runs; sleep 1000", "--requeue")
    _wait(runs.exists)
    slurm.run("scontrol", "requeue", job)
    _wait(lambda: runs.read_text().split() == ["run", "run"])


def test_an_array_runs_each_of_its_tasks(slurm: Any) -> None:
    _submit(slurm, "touch task$SLURM_ARRAY_TASK_ID", "--array=0-4", "--wait")
    assert sorted(path.name for path in slurm.folder.glob("task*")) == [f"task{i}" for i in range(5)]


def test_two_clusters_know_nothing_of_each_other(slurm: Any, rig: ModuleType, tmp_path: Path) -> None:
    with rig.slurm_cluster(tmp_path / "other") as other:
        _submit(slurm, "sleep 1000")
        _wait(lambda: _states(slurm) == ["R"])
        assert not _states(other)
    assert _states(slurm) == ["R"]


def test_nothing_runs_on_after_the_cluster(rig: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(KeyError), rig.slurm_cluster(tmp_path) as slurm:
        _submit(slurm, "touch started; setsid sleep 1000 & sleep 1000")
        _wait((tmp_path / "started").exists)
        assert len(_processes(tmp_path)) > 5
        raise KeyError
    assert not _processes(tmp_path)


def test_nothing_runs_on_after_its_owner_is_killed(rig: ModuleType, tmp_path: Path) -> None:
    owner = f"""
import os, pathlib, slurm_cluster, time
folder = pathlib.Path({str(tmp_path)!r})
with slurm_cluster.slurm_cluster(folder) as slurm:
    slurm.run("sbatch", "--wrap=touch started; sleep 1000")
    while not (folder / "started").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", owner], env=os.environ | {"PYTHONPATH": str(Path(rig.__file__).parent)}
    )
    assert done.returncode == -9
    _wait(lambda: not _processes(tmp_path))


def test_a_cluster_that_does_not_come_up_shows_why(
    rig: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig, "START_S", 1.0)
    monkeypatch.setattr(rig, "_CONFIGURATION", rig._CONFIGURATION.replace("proctrack/linuxproc", "proctrack/absent"))
    with pytest.raises(TimeoutError, match=r"(?s)node0\.log:.*proctrack"), rig.slurm_cluster(tmp_path):
        pass
    _wait(lambda: not _processes(tmp_path))


def test_the_reason_to_skip_says_what_is_missing(rig: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in rig.reason_to_skip()
    monkeypatch.setattr(rig, "_program", lambda name: None)
    assert "slurmctld" in rig.reason_to_skip()
    with pytest.raises(RuntimeError, match="apt-get install"), rig.slurm_cluster(Path("nowhere")):
        pass
