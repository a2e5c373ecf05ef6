"""The options of `gtpick-rt pick` that say which processes pick, on this machine or others."""

from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.help import MACHINES, SLURM
from gtpick_rt.errors import UsageError

if TYPE_CHECKING:
    from gtpick_rt.cluster.specs import ClusterSpec

JOBS, JOB_CORES, JOB_MEMORY, JOB_TIME = 1, "4", "4GB", "08:00:00"

NONE = "none"
"""Of what a job asks for: the site decides."""

Workers = Annotated[
    int | None, typer.Option(metavar="N", rich_help_panel=MACHINES, help="N processes on this machine.")
]
Gpus = Annotated[
    str | None,
    typer.Option(metavar="LIST", rich_help_panel=MACHINES, help="A process for each of these GPUs: 0,1."),
]
Cluster = Annotated[
    str | None, typer.Option(metavar="slurm", rich_help_panel=MACHINES, help="Jobs of Slurm, as many as --jobs.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDR|FILE", rich_help_panel=MACHINES, help="The workers of a Dask scheduler that runs."),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        metavar="i/n",
        rich_help_panel=MACHINES,
        help="The i-th of n parts, beside others into the same OUT, as in a job array.",
    ),
]
Jobs = Annotated[
    int, typer.Option(metavar="N", rich_help_panel=SLURM, help="With --cluster: jobs, with a worker each.")
]
JobCores = Annotated[
    str, typer.Option(metavar="N", rich_help_panel=SLURM, help="With --cluster: cores of a job; none asks for none.")
]
JobMemory = Annotated[
    str,
    typer.Option(metavar="SIZE", rich_help_panel=SLURM, help="With --cluster: memory of a job; none asks for none."),
]
JobTime = Annotated[
    str,
    typer.Option(
        metavar="HH:MM:SS",
        rich_help_panel=SLURM,
        help="With --cluster: time of a job; another follows. none leaves it open.",
    ),
]
Partition = Annotated[
    str | None, typer.Option(metavar="NAME", rich_help_panel=SLURM, help="With --cluster: Slurm's partition.")
]
Account = Annotated[
    str | None, typer.Option(metavar="NAME", rich_help_panel=SLURM, help="With --cluster: Slurm's account.")
]
JobOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--job-option",
        metavar="OPTION",
        rich_help_panel=SLURM,
        help="With --cluster: further options of sbatch, one each: --job-option=--gres=gpu:1. One takes the place of "
        "ours of the same kind: --job-option=--mem-per-cpu=2G.",
    ),
]


def cluster_of(
    workers: int | None,
    gpus: str | None,
    cluster: str | None,
    scheduler: str | None,
    shard: str | None,
    *,
    jobs: int,
    job_cores: str,
    job_memory: str,
    job_time: str,
    partition: str | None,
    account: str | None,
    job_option: list[str] | None,
) -> "ClusterSpec | None":
    """Where the workers are to be; None picks in this process. Raises UsageError."""
    from gtpick_rt.cluster.specs import ExistingScheduler, LocalGpus, LocalWorkers, SlurmJobs, gpu_ids

    ways = {"workers": workers, "gpus": gpus, "cluster": cluster, "scheduler": scheduler, "shard": shard}
    chosen = [f"--{name}" for name, value in ways.items() if value is not None]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)}: choose one of them")
    of_jobs = (jobs, job_cores, job_memory, job_time, partition, account, job_option)
    if cluster is None and of_jobs != (JOBS, JOB_CORES, JOB_MEMORY, JOB_TIME, None, None, None):
        raise UsageError("--jobs, --job-..., --partition and --account go with --cluster slurm")
    if workers is not None:
        return LocalWorkers(workers)
    if gpus is not None:
        return LocalGpus(gpu_ids(gpus))
    if scheduler is not None:
        return ExistingScheduler(scheduler)
    if cluster is None:
        return None
    if cluster != "slurm":
        raise UsageError(f"--cluster {cluster}: slurm is known; for others start Dask workers and give --scheduler")
    return SlurmJobs(
        count=jobs,
        cores=_cores(job_cores),
        memory=None if job_memory == NONE else job_memory,
        time=None if job_time == NONE else job_time,
        partition=partition,
        account=account,
        directives=tuple(job_option or ()),
    )


def _cores(text: str) -> int | None:
    if text == NONE:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--job-cores {text}: neither a number nor {NONE}") from None
