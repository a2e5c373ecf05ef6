"""Starts workers and ends them; whoever is to reach them needs the key of this run."""

import gc
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.security import Security

from gtpick_rt.backends.cores import usable_cores
from gtpick_rt.backends.visible import seeing_only
from gtpick_rt.cluster.configuration import configured, starting
from gtpick_rt.cluster.pool import LocalPool, WorkerPool
from gtpick_rt.cluster.session import CORES, THREADS
from gtpick_rt.cluster.specs import ClusterSpec, ExistingScheduler, LocalGpus, LocalWorkers
from gtpick_rt.errors import UsageError
from gtpick_rt.pipeline.threads import MOST_READERS

LOOPBACK = "127.0.0.1"
CONFIG = {
    "distributed.scheduler.allowed-failures": 0,  # each death is told, and judged by the driver
    "distributed.scheduler.worker-saturation": 1.0,  # a worker holds no more than it works on
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.use-file-locking": False,  # their folders go with the run
    "distributed.comm.timeouts.connect": "30s",
}
_CONNECT_S = 30


@contextmanager
def workers_at(spec: ClusterSpec, folder: Path) -> Iterator[WorkerPool]:
    """Have workers there, of which some may come later, for as long as this is entered.

    `folder` takes the logs and keys of jobs, and must be seen by all machines. Raises UsageError.
    """
    here = isinstance(spec, LocalWorkers | LocalGpus)
    with ExitStack() as stack:
        stack.enter_context(configured(CONFIG, alone=here))
        stack.enter_context(_quiet("distributed", "tornado.application", "asyncio"))
        with starting("the workers cannot be reached", alone=here):
            pool = stack.enter_context(_workers(spec, folder))
        try:
            yield pool
        except OSError as error:
            raise UsageError(f"the workers cannot be reached: {error}") from error


def _workers(spec: ClusterSpec, folder: Path) -> AbstractContextManager[WorkerPool]:
    if isinstance(spec, LocalWorkers):
        return _local(_sharing_cores(spec.count))
    if isinstance(spec, LocalGpus):
        share = usable_cores() // len(spec.ids)
        threads = min(max(THREADS, share), MOST_READERS)  # each reads and writes, as readers do in one process
        return _local({f"gpu{n}": seeing_only(n) for n in spec.ids}, threads)
    if isinstance(spec, ExistingScheduler):
        return _existing(spec)
    from gtpick_rt.cluster.slurm import slurm_jobs

    return slurm_jobs(spec, folder)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let Dask say nothing of workers that are lost: the driver does, in our words."""
    before = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        gc.collect()  # what asyncio says of lost results it says when they are collected
        for logger, level in before.items():
            logger.setLevel(level)


def _sharing_cores(count: int) -> dict[str, dict[str, str]]:
    """The environment of each of so many workers on this machine: each has cores of its own, as far
    as they go.
    """
    cores = sorted(os.sched_getaffinity(0))
    shares = [cores[number::count] or [cores[number % len(cores)]] for number in range(count)]
    return {f"worker{number}": {CORES: ",".join(map(str, share))} for number, share in enumerate(shares)}


@contextmanager
def _local(environments: Mapping[str, Mapping[str, str]], threads: int = THREADS) -> Iterator[WorkerPool]:
    """One process for each environment, of so many threads; TLS keeps out other users of this
    machine.
    """
    _need_shared_memory()
    security = Security.temporary()
    http = {"dashboard": find_spec("bokeh") is not None, "dashboard_address": f"{LOOPBACK}:0"}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": LOOPBACK, "protocol": "tls", "port": 0, "security": security, **http},
    }
    with tempfile.TemporaryDirectory(prefix="gtpick-workers-") as folder:
        common: dict[str, Any] = {
            "host": LOOPBACK,
            "protocol": "tls",
            "security": security,
            "nthreads": threads,
            "memory_limit": 0,
            "local_directory": folder,
            "dashboard": False,
            "dashboard_address": f"{LOOPBACK}:0",
            "silence_logs": logging.CRITICAL,
        }
        workers = {
            name: {"cls": Nanny, "options": {**common, "name": name, "env": dict(environment)}}
            for name, environment in environments.items()
        }
        with (
            SpecCluster(workers, scheduler, security=security, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster) as client,
        ):
            yield LocalPool(client, cluster)


def _need_shared_memory() -> None:
    """Raise UsageError where processes cannot share a lock, as workers and their nannies do."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        raise UsageError(
            f"workers on this machine need /dev/shm, which cannot be written to ({error.strerror}): mount it, of a "
            "container with docker run --tmpfs /dev/shm, or pick in one process, without --workers and --gpus"
        ) from error


@contextmanager
def _existing(spec: ExistingScheduler) -> Iterator[WorkerPool]:
    """A scheduler that somebody else has started, with whatever workers it has, now or later."""
    where = {"address": spec.where} if spec.is_address else {"scheduler_file": spec.where}
    with Client(**where, timeout=_CONNECT_S) as client:
        yield WorkerPool(client)
