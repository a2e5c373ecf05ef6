"""Where the workers of a run are, as the user asks for it; nothing of Dask is loaded here."""

import re
from dataclasses import dataclass
from pathlib import Path

from gtpick_rt.errors import UsageError

_WORD = re.compile(r"[a-zA-Z0-9_.][\w.,-]*", re.ASCII)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
_MEMORY = re.compile(r"[1-9]\d*[MG]i?B", re.ASCII)
_DIRECTIVE = re.compile(r"--([a-z][a-z-]*)(=[\w.,:@+/\[\]*&|%-]+)?", re.ASCII)
_TAKEN = {"array", "chdir", "export", "gid", "requeue", "time", "uid", "wrap"}
"""Options of sbatch that would change what a job is; the time is also its worker's."""
_ONE = ("nodes", "ntasks", "ntasks-per-node")
"""A job has one worker."""
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[\w.:\[\]%-]+", re.ASCII)


@dataclass(frozen=True)
class LocalWorkers:
    """So many processes on this machine, which share its cores.

    Raises UsageError when there would be none.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"--workers {self.count}: give 1 or more")


@dataclass(frozen=True)
class LocalGpus:
    """A process for each of these GPUs of this machine, by their numbers.

    Raises UsageError when one comes twice.
    """

    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ids or len(set(self.ids)) != len(self.ids) or min(self.ids) < 0:
            raise UsageError("--gpus: give the numbers of GPUs, each once, as in --gpus 0,1")


@dataclass(frozen=True, kw_only=True)
class SlurmJobs:
    """So many jobs of Slurm with one worker each; those that are lost are replaced.

    Raises UsageError for a value that could be anything but one word of a `#SBATCH` line.
    """

    count: int
    cores: int | None
    """Per job; None asks for none, where the site decides."""
    memory: str | None
    """Per job: "4GB"; None asks for none."""
    time: str | None
    """After which Slurm ends a job, as `sbatch --time` takes it, None for the site's own time;
    another is started then."""
    partition: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    """Further options of sbatch, such as "--gres=gpu:1". One of what gtpick-rt asks for as well is
    taken instead: "--mem-per-cpu=2G"."""

    def __post_init__(self) -> None:
        if self.count < 1 or (self.cores is not None and self.cores < 1):
            raise UsageError("--jobs and --job-cores: give 1 or more")
        _check("--job-memory", self.memory, _MEMORY, "4GB")
        _check("--job-time", self.time, _TIME, "08:00:00 or 2-00:00:00")
        _check("--partition", self.partition, _WORD, "gpu")
        _check("--account", self.account, _WORD, "mylab")
        for directive in self.directives:
            _check("--job-option", directive, _DIRECTIVE, "--gres=gpu:1")
            name, _, value = directive.removeprefix("--").partition("=")
            if name in _TAKEN:
                raise UsageError(f"--job-option {directive}: is set already; see gtpick-rt pick --help")
            if name in _ONE and value != "1":
                raise UsageError(f"--job-option {directive}: a job has one worker; say --{name}=1, and give --jobs")
        _check("--job-option --job-name", self.option("job-name"), _WORD, "--job-name=picking")
        if self.seconds == 0:
            raise UsageError(f"--job-time {self.time}: give more than no time")

    @property
    def seconds(self) -> int | None:
        """`time` in seconds."""
        if self.time is None:
            return None
        found = _TIME.fullmatch(self.time)
        assert found is not None
        days, *parts = found.groups()
        first, second, third = (int(part or 0) for part in parts)
        if days is not None:  # days-hours:minutes:seconds
            return ((int(days) * 24 + first) * 60 + second) * 60 + third
        if parts[2] is None:  # minutes:seconds
            return first * 60 + second
        return (first * 60 + second) * 60 + third

    def option(self, name: str) -> str | None:
        """The value that `directives` give to an option of sbatch; None where they do not."""
        values = [each.partition("=")[2] for each in self.directives if each.partition("=")[0] == f"--{name}"]
        return values[-1] if values else None


@dataclass(frozen=True)
class ExistingScheduler:
    """A Dask scheduler that runs already: its address, or the file in which it keeps it.

    Raises UsageError.
    """

    where: str

    def __post_init__(self) -> None:
        if _ADDRESS.fullmatch(self.where) is None and not Path(self.where).is_file():
            raise UsageError(
                f"--scheduler {self.where}: neither an address, such as tls://node1:8786, nor a scheduler's file"
            )

    @property
    def is_address(self) -> bool:
        """Whether it is an address and not a file."""
        return _ADDRESS.fullmatch(self.where) is not None


ClusterSpec = LocalWorkers | LocalGpus | SlurmJobs | ExistingScheduler


def gpu_ids(text: str) -> tuple[int, ...]:
    """Read the value of --gpus. Raises UsageError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--gpus {text}: give the numbers of GPUs, as in --gpus 0,1") from None


def _check(option: str, value: str | None, pattern: re.Pattern[str], example: str) -> None:
    if value is not None and pattern.fullmatch(value) is None:
        raise UsageError(f"{option} {value!r}: cannot stand in a Slurm script; give something like {example}")
