"""Jobs of a real Slurm pick; jobs that are lost are replaced, and what Slurm refuses is said."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security

from gtpick_rt.cluster import slurm as slurm_module
from gtpick_rt.cluster.specs import SlurmJobs
from gtpick_rt.cluster.starting import workers_at
from gtpick_rt.errors import UsageError
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.records import MicrographRecord, Record

MakeSite = Callable[[int], Any]
TWO = SlurmJobs(count=2, cores=1, memory="500MB", time="00:30:00")


@pytest.fixture(autouse=True)
def _in_slurm(slurm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setattr(slurm_module, "KEEP_S", 0.5)


def jobs(slurm: Any) -> list[str]:
    return slurm.run("squeue", "--noheader", "--format=%A", "--states=R,PD").split()


def test_jobs_pick_and_those_that_are_lost_are_replaced(slurm: Any, site: MakeSite, tmp_path: Path) -> None:
    here = site(60)
    told: list[Record] = []
    seen: set[str] = set()

    def done(record: Record) -> None:
        told.append(record)
        if len(told) in (10, 25, 40):
            seen.update(running := jobs(slurm))
            slurm.run("scancel", running[0])

    with workers_at(TWO, tmp_path / "jobs") as pool:
        summary = here.run(pool, listeners=Listeners(done=done))
        seen.update(jobs(slurm))
    assert sorted(record.stem for record in told) == [f"m{number:03}" for number in range(60)]
    assert all(isinstance(record, MicrographRecord) for record in told)
    assert len(here.picked()) == summary.totals.micrographs == 60
    assert len(seen) > 2
    deadline = time.monotonic() + 30
    while jobs(slurm):
        assert time.monotonic() < deadline, "jobs are left behind"
        time.sleep(0.1)
    assert not list((tmp_path / "jobs").glob("*.pem"))


def test_the_keys_of_a_run_are_its_users_alone_and_nothing_listens_without_them(slurm: Any, tmp_path: Path) -> None:
    with workers_at(TWO, tmp_path / "jobs") as pool:
        pool.client.wait_for_workers(2, timeout=60)
        assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "jobs" / "key.pem").stat().st_mode & 0o777 == 0o600
        assert pool.client.scheduler.address.startswith("tls://")
        pids = {os.getpid(), *pool.client.run(os.getpid).values(), *pool.client.run(os.getppid).values()}
        for address, pid in listeners():
            if pid in pids and not address.startswith("127."):
                assert not speaks_without_tls(address)
        with pytest.raises(OSError):
            Client(pool.client.scheduler.address, timeout=3, security=Security.temporary())


def listeners() -> Iterator[tuple[str, int]]:
    """Addresses that processes of this machine listen on, with the processes."""
    said = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        _, _, _, address, _, *process = line.split()
        for part in "".join(process).split("pid=")[1:]:
            yield address, int(part.partition(",")[0])


def speaks_without_tls(address: str) -> bool:
    """Whether a listener answers HTTP, or lets Dask's own handshake begin, in the clear."""
    import socket

    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]").replace("0.0.0.0", "127.0.0.1"), int(port)), timeout=5) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            answer = peer.recv(1000)
        except OSError:
            return False
    return bool(answer) and answer[0] not in (0x15, 0x16)  # an alert or a handshake of TLS


def test_what_slurm_refuses_is_said_at_once(tmp_path: Path) -> None:
    refused = SlurmJobs(count=1, cores=1, memory="500MB", time="10", partition="nowhere")
    with pytest.raises(UsageError, match=r"Slurm refuses: .*invalid partition"), workers_at(refused, tmp_path / "jobs"):
        pass


DRIVER = """
import sys
from pathlib import Path
from gtpick_rt import pick
from gtpick_rt.cluster import slurm
from gtpick_rt.cluster.specs import SlurmJobs
slurm.KEEP_S = 0.5
if __name__ == "__main__":
    jobs = SlurmJobs(count=2, cores=1, memory="500MB", time="30")
    pick(sys.argv[1], sys.argv[2], diameter_A=24, model=sys.argv[3], threshold=0.9, backend="cpu", cluster=jobs)
"""


def test_a_driver_that_is_killed_and_begun_again_picks_the_rest_once(
    slurm: Any, site: MakeSite, tmp_path: Path
) -> None:
    here = site(60)
    (tmp_path / "drive.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "drive.py"), str(here.images), str(here.out), str(here.model)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(here.picked()) < 10:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert driver.stderr is not None
    driver.stderr.close()
    time.sleep(4)  # in which its workers notice
    before = {path: path.stat().st_ino for path in here.out.glob("*_autopick.star")}
    assert 10 <= len(before) < 60
    subprocess.run(command, check=True, timeout=120)
    assert len(here.picked()) == 60
    assert {path: path.stat().st_ino for path in before} == before
