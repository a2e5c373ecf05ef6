"""Workers as jobs of Slurm, each with one worker; jobs that are lost are replaced."""

import asyncio
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, Status
from distributed.security import Security

from gtpick_rt.cluster.jobqueue import SLURMCluster, SLURMJob, slurm_format_bytes_ceil
from gtpick_rt.cluster.pool import LocalPool
from gtpick_rt.cluster.session import THREADS
from gtpick_rt.cluster.specs import SlurmJobs
from gtpick_rt.errors import UsageError
from gtpick_rt.files.atomic import make_folder, write_atomic

KEEP_S = 15.0
"""How often Slurm is asked which jobs there are: sites ask not to do so often."""
LIFE, STAGGER = 0.85, 0.1
"""Shares of a job's time after which its worker leaves, and by how much they differ, so that not
all leave at once."""
_WRITTEN = {
    "account": "-A ",
    "cpus-per-gpu": "--cpus-per-task=",
    "cpus-per-task": "--cpus-per-task=",
    "error": "-e ",
    "job-name": "-J ",
    "mem": "--mem=",
    "mem-per-cpu": "--mem=",
    "mem-per-gpu": "--mem=",
    "ntasks": "-n ",
    "ntasks-per-node": "-n ",
    "output": "-o ",
    "partition": "-p ",
}
"""What Dask writes into a job's script, by the options of sbatch that take its place."""
_LOOPBACK = "127.0.0.1:0"
_PATH = re.compile(r"[\w./@+,:=-]+", re.ASCII)
_COMMAND_S = 60
_ASK = "--test-only"


class Refused(UsageError):
    """Slurm does not do what it was asked to."""


@contextmanager
def slurm_jobs(spec: SlurmJobs, folder: Path) -> Iterator[LocalPool]:
    """So many jobs; `folder`, which all nodes must see, takes their logs and the keys of this run.

    Raises UsageError when Slurm refuses such jobs.
    """
    folder = folder.absolute()
    if _PATH.fullmatch(str(folder)) is None:
        raise UsageError(f"{folder}: Slurm cannot write its logs there; choose an --out of letters, digits and . _ -")
    own = hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()
    name = f"{spec.option('job-name') or 'gtpick'}-{own}"  # by which they are found
    with suppress(Refused):
        _slurm("scancel", "--quiet", f"--name={name}")  # of a run that was killed
    with ExitStack() as stack:
        security = stack.enter_context(_keys(folder))
        options = _options(spec, folder, name, security)
        cluster = stack.enter_context(_NamedApart(**options))
        _refuse_early(cluster.job_script(), folder)
        client = stack.enter_context(Client(cluster))
        cluster.scale(spec.count)
        yield SlurmPool(client, cluster, name, spec.count)


class SlurmPool(LocalPool):
    """Workers of which each is a job."""

    def __init__(self, client: Client, cluster: SLURMCluster, name: str, jobs: int) -> None:
        super().__init__(client, cluster)
        self._name, self._jobs, self._due = name, jobs, time.monotonic() + KEEP_S

    def replenish(self) -> None:
        """Replace jobs that Slurm knows no more, begun or not.

        Dask's own `adapt` forgets those that never began.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + KEEP_S
        try:
            known = set(_slurm("squeue", "--noheader", "--format=%A", f"--name={self._name}").split())
        except UsageError:  # Slurm is away for a moment, which tells nothing of the jobs
            return
        lost = [name for name, job in list(self._cluster.workers.items()) if job.job_id not in known]
        if lost:
            self._cluster.sync(self._cluster.scale_down, lost)
        self._cluster.scale(self._jobs)

    def trouble(self) -> str:
        """Why Slurm has not taken a job that it was given."""
        return next((job.refusal for job in list(self._cluster.workers.values()) if job.refusal), "")

    def retire(self, name: str, address: str) -> None:
        """End a job; another takes its place, on another node perhaps."""
        self._cluster.sync(self._cluster.scale_down, [name])


class _Job(SLURMJob):
    """Keeps why Slurm has refused it, and counts as closed where it never began."""

    refusal = ""

    async def _submit_job(self, script_filename: str) -> str:
        return await asyncio.to_thread(_slurm, "sbatch", script_filename)

    async def start(self) -> None:
        try:
            await super().start()  # type: ignore[no-untyped-call]
        except (UsageError, ValueError) as error:  # ValueError: what sbatch prints has no number in it
            self.refusal = " ".join(str(error).split())
            raise

    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed


class _NamedApart(SLURMCluster):
    """Never gives the name of a job that was lost to another, which would be taken for it."""

    job_cls = _Job

    def __init__(self, **options: Any) -> None:
        self._numbers = count()
        super().__init__(**options)

    def _new_worker_name(self, worker_number: int) -> str:
        return f"job{next(self._numbers)}"


def _options(spec: SlurmJobs, folder: Path, name: str, security: Security) -> dict[str, Any]:
    return {
        "n_workers": 0,
        "cores": spec.cores or 1,
        "job_cpu": spec.cores or 1,
        "processes": 1,
        "memory": spec.memory or "1GB",
        "job_mem": None if spec.memory is None else slurm_format_bytes_ceil(parse_bytes(spec.memory)),
        "walltime": spec.time,
        "queue": spec.partition,
        "account": spec.account,
        "job_directives_skip": [f"#SBATCH {each}" for each in _left_out(spec)] + _users_own("job-directives-skip"),
        "job_extra_directives": [each for each in spec.directives if not each.startswith("--job-name=")],
        "job_name": name,
        "python": shlex.quote(sys.executable),
        "security": security,
        "log_directory": str(folder / "log"),
        "death_timeout": 60,
        "scheduler_options": {"dashboard_address": _LOOPBACK},
        "worker_extra_args": [
            *("--nthreads", str(THREADS), "--memory-limit", "0", "--dashboard-address", _LOOPBACK),
            *_lifetime(spec.seconds),
        ],
    }


def _left_out(spec: SlurmJobs) -> list[str]:
    """How the lines begin that Dask would write, but which are not wanted."""
    unasked = {"--cpus-per-task=": spec.cores, "--mem=": spec.memory, "-t ": spec.time}
    instead = [line for option, line in _WRITTEN.items() if option != "job-name" and spec.option(option) is not None]
    return [*instead, *(line for line, asked in unasked.items() if asked is None)]


def _users_own(setting: str) -> list[str]:
    """What the user's configuration of Dask has of a list."""
    return list(dask.config.get(f"jobqueue.slurm.{setting}", None) or ())


def _lifetime(job_s: int | None) -> list[str]:
    if job_s is None:
        return []
    return ["--lifetime", f"{LIFE * job_s:.0f}s", "--lifetime-stagger", f"{STAGGER * job_s:.0f}s"]


@contextmanager
def _keys(folder: Path) -> Iterator[Security]:
    """Certificate and key of this run, in files that only this user can read, for as long as this
    is entered.
    """
    made = Security.temporary()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_folder(folder)
    folder.chmod(0o700)
    write_atomic(certificate, made.tls_client_cert.encode(), 0o600)
    write_atomic(key, made.tls_client_key.encode(), 0o600)
    roles = {
        f"tls_{role}_{kind}": str(path)
        for role in ("client", "scheduler", "worker")
        for kind, path in (("cert", certificate), ("key", key))
    }
    try:
        yield Security(require_encryption=True, tls_ca_file=str(certificate), **roles)
    finally:
        certificate.unlink(missing_ok=True)
        key.unlink(missing_ok=True)


def _refuse_early(script: str, folder: Path) -> None:
    """Ask Slurm whether it would take such jobs: what it refuses later, Dask waits for.

    Raises Refused.
    """
    path = folder / "job.sh"
    write_atomic(path, script.encode(), 0o600)
    try:
        _slurm("sbatch", _ASK, str(path))
    except Refused as error:
        if _ASK not in str(error):  # stand-ins for sbatch do not all know it
            raise Refused(
                f"{error}; the job is {path}: --job-option, --job-memory none and their like change its lines"
            ) from error


def _slurm(*command: str) -> str:
    """Run a command of Slurm. Raises UsageError, which is Refused where it runs and says no."""
    try:
        done = subprocess.run(  # noqa: S603 - its arguments are checked
            command, capture_output=True, text=True, timeout=_COMMAND_S, env=os.environ | {"LC_ALL": "C"}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{command[0]} cannot be run ({error}); is Slurm installed on this machine?") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Refused(f"Slurm refuses: {'; '.join(filter(None, said)) or f'{command[0]} ends with {done.returncode}'}")
    return done.stdout
