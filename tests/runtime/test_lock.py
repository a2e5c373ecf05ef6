"""Only one process at a time writes to a folder, also where the file system has no locks."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gtpick_rt import lock
from gtpick_rt.errors import UsageError
from gtpick_rt.lock import lock_folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".gtpick").mkdir(parents=True)
    return tmp_path / "out" / ".gtpick" / "lock"


@pytest.fixture(params=["locks", "no locks"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of file system."""
    if request.param == "no locks":

        def unsupported(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        monkeypatch.setattr(lock, "BEAT_S", 0.05)
    return str(request.param)


@pytest.mark.usefixtures("file_system")
def test_a_second_holder_is_refused_until_the_first_has_released(path: Path) -> None:
    first = lock_folder(path)
    with pytest.raises(UsageError, match=rf"out: process {os.getpid()} on .* is writing here; wait for it"):
        lock_folder(path)
    assert first.is_held()
    first.release()
    second = lock_folder(path)
    assert second.is_held()
    second.release()


@pytest.mark.usefixtures("file_system")
def test_a_folder_that_is_removed_is_no_longer_held(path: Path) -> None:
    held = lock_folder(path)
    shutil.rmtree(path.parent)
    assert not held.is_held()
    held.release()


HOLD = """
import fcntl, sys, time
from pathlib import Path
from gtpick_rt import lock
if sys.argv[2] == "no locks":
    def unsupported(*_):
        raise OSError(37, "No locks available")
    fcntl.flock = unsupported
    lock.BEAT_S = 0.05
held = lock.lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_killed_holds_nothing(path: Path, file_system: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path), file_system], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()
        with pytest.raises(UsageError, match=rf"process {holder.pid} on"):
            lock_folder(path)
        holder.kill()
        holder.wait()
    after = lock_folder(path)
    assert after.is_held()
    after.release()


def test_without_locks_a_holder_that_was_taken_for_dead_learns_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    frozen = lock._Heartbeat(path)
    frozen._released.set()
    frozen._thread.join()
    after = lock._Heartbeat(path)
    assert not frozen.is_held()
    time.sleep(0.1)
    frozen.release()
    assert after.is_held()
    after.release()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_to_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UsageError, match=r"out: the output folder cannot be locked \(Is a directory\)"):
        lock_folder(path)
