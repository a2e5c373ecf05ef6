"""What a job asks Slurm for can be left out or replaced, line by line; Slurm is a stand-in that
keeps the script.
"""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs Dask: the extra cluster")

from gtpick_rt.cli.clusters import cluster_of
from gtpick_rt.cluster.specs import ClusterSpec, SlurmJobs
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.errors import UsageError

ASKED = {"-J", "-e", "-o", "-p", "-A", "-n", "--cpus-per-task", "--mem", "-t"}
"""What is written where nothing is said of it."""


class Slurm:
    """Stand-ins for Slurm's commands, first on the PATH, which say yes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.folder = folder.parent / "jobs"
        for name in ("sbatch", "squeue", "scancel"):
            self.answer(name, "echo Submitted batch job 77" if name == "sbatch" else "")

    def answer(self, name: str, script: str) -> None:
        """Let a command do something else; `$script` is the file that it is given last."""
        path = self._folder / name
        path.write_text(f'#!/bin/sh\nfor script in "$@"; do :; done\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def lines(self, spec: ClusterSpec) -> dict[str, str]:
        """The #SBATCH lines of a job, by their options."""
        with workers_at(spec, self.folder):
            script = (self.folder / "job.sh").read_text()
        words = (line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH "))
        pairs = (word.split("=" if word.startswith("--") else " ", 1) for word in words)
        found = [(name, *value) for name, *value in pairs]
        assert len({name for name, *_ in found}) == len(found)  # nothing is said twice
        return {name: value[0] if value else "" for name, *value in found}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Slurm(tmp_path / "bin")


def asked(*options: str, memory: str = "4GB", cores: str = "4", time: str = "08:00:00") -> ClusterSpec:
    """Jobs as the command line asks for them."""
    spec = cluster_of(
        *(None, None, "slurm", None, None),
        jobs=1,
        job_cores=cores,
        job_memory=memory,
        job_time=time,
        partition="fast",
        account="lab",
        job_option=list(options),
    )
    assert spec is not None
    return spec


def test_each_line_stands_once_where_nothing_is_said_of_it(stand_in: Slurm) -> None:
    lines = stand_in.lines(asked())
    assert lines.keys() == ASKED
    assert (lines["--mem"], lines["--cpus-per-task"], lines["-t"]) == ("4G", "4", "08:00:00")


@pytest.mark.parametrize(
    ("option", "gone"),
    [
        ("--mem-per-cpu=2G", "--mem"),
        ("--mem-per-gpu=8G", "--mem"),
        ("--mem=0", "--mem"),
        ("--cpus-per-gpu=4", "--cpus-per-task"),
        ("--cpus-per-task=2", "--cpus-per-task"),
        ("--ntasks=1", "-n"),
        ("--ntasks-per-node=1", "-n"),
        ("--output=/scratch/%j.out", "-o"),
        ("--error=/scratch/%j.err", "-e"),
        ("--partition=other", "-p"),
        ("--account=other", "-A"),
    ],
)
def test_an_option_takes_the_place_of_ours(option: str, gone: str, stand_in: Slurm) -> None:
    name, _, value = option.partition("=")
    lines = stand_in.lines(asked(option))
    assert lines.pop(name) == value
    assert lines.keys() == ASKED - {gone} - {name}


@pytest.mark.parametrize(
    ("left_out", "gone"),
    [({"memory": "none"}, "--mem"), ({"cores": "none"}, "--cpus-per-task"), ({"time": "none"}, "-t")],
)
def test_what_the_site_decides_is_not_asked_for(left_out: dict[str, str], gone: str, stand_in: Slurm) -> None:
    assert stand_in.lines(asked(**left_out)).keys() == ASKED - {gone}
    assert ("--lifetime" in (stand_in.folder / "job.sh").read_text()) == ("time" not in left_out)


def test_a_name_of_the_users_own_still_tells_the_jobs_of_one_folder_from_others(stand_in: Slurm) -> None:
    lines = stand_in.lines(asked("--job-name=picking"))
    assert lines.keys() == ASKED
    assert lines["-J"].startswith("picking-")
    assert len(lines["-J"]) == len("picking-") + 8


@pytest.mark.parametrize("option", ["--nodes=2", "--ntasks=4", "--ntasks-per-node"])
def test_a_job_stays_that_of_one_worker(option: str) -> None:
    with pytest.raises(UsageError, match=r"a job has one worker; say --.*=1"):
        asked(option)


@pytest.mark.parametrize("cores", ["", "four", "0", "-1"])
def test_cores_are_a_number_or_none(cores: str) -> None:
    with pytest.raises(UsageError, match="--job-cores"):
        asked(cores=cores)


def test_what_slurm_refuses_is_told_in_one_line_with_what_can_be_changed(stand_in: Slurm) -> None:
    refused = 'if grep -q -- --mem= "$script"; then echo no memory by node; echo; echo sorry; exit 1; fi >&2'
    stand_in.answer("sbatch", f"{refused}\necho Submitted batch job 77")
    with pytest.raises(UsageError, match=r"^Slurm refuses: no memory by node; sorry; the job is .*job\.sh: --job-opt"):
        stand_in.lines(asked())
    assert "--mem" not in stand_in.lines(asked(memory="none"))


def test_a_slurm_that_cannot_be_asked_beforehand_is_not_asked(stand_in: Slurm) -> None:
    stand_in.answer("sbatch", "echo \"sbatch: unrecognized option '--test-only'\" >&2; exit 1")
    assert stand_in.lines(asked()).keys() == ASKED


def test_jobs_of_a_run_that_was_killed_need_no_name_of_the_user_to_be_found(stand_in: Slurm, tmp_path: Path) -> None:
    stand_in.answer("scancel", f'echo "$@" >> {tmp_path}/called; echo "no such job" >&2; exit 1')
    name = stand_in.lines(asked())["-J"]
    assert (tmp_path / "called").read_text().splitlines()[0] == f"--quiet --name={name}"


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo 'too many jobs of yours' >&2; exit 1", "Slurm refuses: too many jobs of yours"),
        ("exit 3", "Slurm refuses: sbatch ends with 3"),
        ("echo welcome", "Could not parse job id .*welcome"),
    ],
)
def test_a_job_that_is_refused_only_when_it_is_given_is_told_and_leaves_no_trace(
    says: str, told: str, stand_in: Slurm
) -> None:
    stand_in.answer("sbatch", f'case "$*" in *--test-only*) exit 0;; esac; {says}')
    with workers_at(asked(), stand_in.folder) as pool:
        until = time.monotonic() + 30
        while not pool.trouble():
            assert time.monotonic() < until, "nothing is told"
            time.sleep(0.05)
        assert re.match(told, pool.trouble())


@pytest.mark.parametrize("missing", ["sbatch", "scancel"])
def test_without_slurm_the_command_that_is_missing_is_named(
    missing: str, stand_in: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / missing).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UsageError, match=rf"{missing} cannot be run .*; is Slurm installed on this machine"):
        stand_in.lines(SlurmJobs(count=1, cores=1, memory="1GB", time="10"))


def test_the_users_own_configuration_of_dask_is_not_asked_of_what_we_say(stand_in: Slurm, tmp_path: Path) -> None:
    """dask-jobqueue would take memory and cores from it, though they are given here."""
    code = (
        "import sys; from pathlib import Path; from gtpick_rt.cluster.specs import SlurmJobs\n"
        "from gtpick_rt.cluster.starting import workers_at\n"
        "with workers_at(SlurmJobs(count=1, cores=4, memory='4GB', time='10'), Path('jobs').absolute()): pass\n"
    )
    (tmp_path / "theirs.yaml").write_text("jobqueue: {slurm: {job-mem: 99G, job-cpu: 99, walltime: '9-0'}}")
    environment = os.environ | {"DASK_CONFIG": str(tmp_path / "theirs.yaml")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    script = (tmp_path / "jobs" / "job.sh").read_text()
    assert "--mem=4G" in script and "--cpus-per-task=4" in script and "-t 10\n" in script
    assert not (tmp_path / "home").exists()
