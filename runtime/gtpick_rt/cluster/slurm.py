"""Workers as jobs of Slurm, each with one worker; jobs that are lost are replaced."""

import getpass
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dask_jobqueue.slurm import SLURMCluster
from distributed import Client
from distributed.security import Security

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
_LOOPBACK = "127.0.0.1:0"
_PATH = re.compile(r"[\w./@+,:=-]+", re.ASCII)
_COMMAND_S = 60


@contextmanager
def slurm_jobs(spec: SlurmJobs, folder: Path) -> Iterator[LocalPool]:
    """So many jobs; `folder`, which all nodes must see, takes their logs and the keys of this run.

    Raises UsageError when Slurm refuses such jobs.
    """
    folder = folder.absolute()
    if _PATH.fullmatch(str(folder)) is None:
        raise UsageError(f"{folder}: Slurm cannot write its logs there; choose an --out of letters, digits and . _ -")
    name = f"gtpick-{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"
    _slurm("scancel", "--quiet", f"--name={name}", f"--user={getpass.getuser()}")  # of a run that was killed
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

    def retire(self, name: str, address: str) -> None:
        """End a job; another takes its place, on another node perhaps."""
        self._cluster.sync(self._cluster.scale_down, [name])


class _NamedApart(SLURMCluster):
    """Never gives the name of a job that was lost to another, which would be taken for it."""

    def __init__(self, **options: Any) -> None:
        self._numbers = count()
        super().__init__(**options)

    def _new_worker_name(self, worker_number: int) -> str:
        return f"job{next(self._numbers)}"


def _options(spec: SlurmJobs, folder: Path, name: str, security: Security) -> dict[str, Any]:
    life_s = LIFE * spec.seconds
    return {
        "n_workers": 0,
        "cores": spec.cores,
        "processes": 1,
        "memory": spec.memory,
        "walltime": spec.time,
        "queue": spec.partition,
        "account": spec.account,
        "job_extra_directives": list(spec.directives),
        "job_name": name,
        "python": shlex.quote(sys.executable),
        "security": security,
        "log_directory": str(folder / "log"),
        "death_timeout": 60,
        "scheduler_options": {"dashboard_address": _LOOPBACK},
        "worker_extra_args": [
            *("--nthreads", str(THREADS), "--memory-limit", "0", "--dashboard-address", _LOOPBACK),
            *("--lifetime", f"{life_s:.0f}s", "--lifetime-stagger", f"{STAGGER * spec.seconds:.0f}s"),
        ],
    }


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

    Raises UsageError.
    """
    path = folder / "job.sh"
    write_atomic(path, script.encode(), 0o600)
    _slurm("sbatch", "--test-only", str(path))


def _slurm(*command: str) -> str:
    """Run a command of Slurm. Raises UsageError."""
    try:
        done = subprocess.run(  # noqa: S603 - its arguments are checked
            command, capture_output=True, text=True, timeout=_COMMAND_S, env=os.environ | {"LC_ALL": "C"}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{command[0]} cannot be run ({error}); is Slurm installed on this machine?") from error
    if done.returncode != 0:
        raise UsageError(f"Slurm refuses: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
