"""A private Slurm cluster on one machine, for tests and benchmarks: real daemons, made-up nodes.

Configuration, key, state and ports are its own: it neither needs nor disturbs a Slurm that the
machine has.

    with slurm_cluster(folder) as slurm:
        job = slurm.run("sbatch", "--parsable", "--wrap=hostname")

A guard holds the daemons. When the process that started it leaves or is killed, it ends them, their
jobs and itself.
"""

import contextlib
import ctypes
import ipaddress
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue")
START_S = 20.0
_TICK_S = 0.1
_PORTS = range(10_000, 32_000)
"""Below those that Linux gives to whoever asks for any."""
_PR_SET_CHILD_SUBREAPER = 36

# A job that is requeued waits until its credential has expired: two minutes by default, five
# seconds at least.
# LLN spreads jobs over the nodes, KillWait lies between SIGTERM and SIGKILL.
_CONFIGURATION = """\
ClusterName=private
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge},cred_expire=5
CommunicationParameters={binding}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=2
PartitionName=main Nodes=ALL Default=YES LLN=YES MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={name} NodeHostname=localhost NodeAddr={address} Port={port} CPUs={cpus} RealMemory=100000\n"


def reason_to_skip() -> str | None:
    """Why no cluster can be started here, or None when one can."""
    if absent := [program for program in (*DAEMONS, *COMMANDS) if not _program(program)]:
        return f"Slurm is not installed: no {', '.join(absent)} (Debian: apt-get install slurmctld slurmd)"
    return None if os.geteuid() == 0 else "Slurm's daemons run jobs of users, and need root for it"


@dataclass(frozen=True)
class Slurm:
    """A running cluster: the environment of a process that uses it, and the folder of its logs."""

    environment: dict[str, str]
    folder: Path
    nodes: tuple[str, ...]

    def run(self, *command: str) -> str:
        """Run a command of Slurm in its folder and return what it prints.

        Raises CalledProcessError.
        """
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, check=True, text=True, stdout=subprocess.PIPE
        )
        return done.stdout.strip()

    def wait_for_idle_nodes(self, timeout_s: float = START_S) -> None:
        """Wait until no node has a job. Raises TimeoutError, with the ends of the logs."""
        deadline = time.monotonic() + timeout_s
        while self._states() != ["idle"] * len(self.nodes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Slurm's nodes are not idle after {timeout_s:g} s.\n{self.logs()}")
            time.sleep(_TICK_S)

    def logs(self, lines: int = 20) -> str:
        """The last lines of each daemon's log."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-lines:]) for log in logs)

    def _states(self) -> list[str]:
        command = ["sinfo", "--noheader", "--Node", "--format=%t"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout.split()


@contextlib.contextmanager
def slurm_cluster(folder: Path, nodes: int = 2, cpus: int = 2) -> Iterator[Slurm]:
    """Run a cluster whose `nodes` each have `cpus` processors, however many this machine has.

    Raises:
        RuntimeError: Slurm is not installed or this is not root; `reason_to_skip` tells before.
        TimeoutError: it did not come up; with the ends of the logs.
    """
    if reason := reason_to_skip():
        raise RuntimeError(reason)
    names = tuple(f"node{number}" for number in range(nodes))
    folder = folder.resolve()
    munge = Path(tempfile.mkdtemp(prefix="munge-")) / "socket"  # a socket's path has at most 107 characters
    _configure(folder, munge, names, cpus)
    slurm = Slurm(_environment(folder), folder, names)
    command = [sys.executable, __file__, str(os.getpid()), str(folder), str(munge), *names]
    guard = subprocess.Popen(command, env=slurm.environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        slurm.wait_for_idle_nodes(START_S)
        yield slurm
    finally:
        guard.terminate()
        guard.wait()


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _environment(folder: Path) -> dict[str, str]:
    """Ours, less what a surrounding job of another cluster has set."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    return ours | {"SLURM_CONF": str(folder / "slurm.conf")}


def _configure(folder: Path, munge: Path, nodes: tuple[str, ...], cpus: int) -> None:
    for name in ("state", *nodes):
        (folder / name).mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    address, binding = _address()
    port, *ports = _free_ports(1 + len(nodes))
    text = _CONFIGURATION.format(folder=folder, host=f"localhost({address})", port=port, munge=munge, binding=binding)
    text += "".join(
        _NODE.format(name=name, address=address, port=port, cpus=cpus) for name, port in zip(nodes, ports, strict=True)
    )
    (folder / "slurm.conf").write_text(text)


def _address() -> tuple[str, str]:
    """Where the daemons are reached, and the option that lets them listen there only.

    The option binds them to what the machine's name stands for, which need not be a loopback
    address.
    """
    with contextlib.suppress(OSError):
        named = socket.gethostbyname(socket.gethostname())
        if ipaddress.ip_address(named).is_loopback:
            return named, "NoInAddrAny,NoCtldInAddrAny"
    return "127.0.0.1", ""


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            if port not in ports:
                ports.append(port)
    return ports


def _guard(parent: int, folder: Path, munge: Path, nodes: list[str]) -> None:
    """Hold the daemons until the parent is gone or SIGTERM comes."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        _start(folder, munge, nodes)
        while os.getppid() == parent:
            time.sleep(_TICK_S)
            _reap()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children()
        shutil.rmtree(munge.parent)


def _start(folder: Path, munge: Path, nodes: list[str]) -> None:
    key, pid, seed = (folder / f"munge.{suffix}" for suffix in ("key", "pid", "seed"))
    options = [f"--socket={munge}", f"--key-file={key}", f"--pid-file={pid}", f"--seed-file={seed}"]
    _daemon(folder / "munge.log", ["munged", "--foreground", "--force", *options])
    while not munge.exists():
        time.sleep(0.01)
    _daemon(folder / "slurmctld.log", ["slurmctld", "-D"])
    for node in nodes:
        _daemon(folder / f"{node}.log", ["slurmd", "-D", "-N", node])


def _daemon(log: Path, command: list[str]) -> None:
    with log.open("wb") as out:
        subprocess.Popen(
            [str(_program(command[0])), *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_children() -> None:
    """The children of a child that ends become ours, so that none is left once the last is gone."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        os.waitpid(-1, 0)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
