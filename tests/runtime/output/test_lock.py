"""Only one process at a time writes to a folder, also where the file system has no locks."""

import errno
import fcntl
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gtpick_rt.errors import InUseError, UnwritableError, UsageError
from gtpick_rt.output import lock
from gtpick_rt.output.holders import heartbeat_of, holder
from gtpick_rt.output.lock import FolderLock, lock_folder, share_folder
from gtpick_rt.output.pick_files import writing_to


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".gtpick").mkdir(parents=True)
    return tmp_path / "out" / ".gtpick" / "lock"


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


def test_the_text_of_a_lock_is_on_the_disk_before_it_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS tells other machines of it no sooner, who would take the folder for nobody's."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.pread(descriptor, 200, 0).decode()))
    lock_folder(path).release()
    assert [text.partition(" on ")[0] for text in synced] == [f"process {os.getpid()}"]


def test_whoever_got_the_same_lock_on_another_machine_holds_the_folder_and_the_first_notices(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system whose locks are each machine's own."""
    first = lock_folder(path)
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    second = lock_folder(path)
    assert not first.is_held()
    assert second.is_held()
    first.release()
    assert second.is_held()
    second.release()


@pytest.mark.usefixtures("file_system")
def test_those_who_share_keep_out_who_wants_the_folder_alone_until_the_last_has_gone(path: Path) -> None:
    own = [path.with_name(f"{n}.lock") for n in range(2)]
    held = [(share_folder(path), lock_folder(each)) for each in own]
    for shared, mine in held:
        with pytest.raises(InUseError, match="is writing here"):
            lock_folder(path, lambda: own)
        assert all(lock.is_held() for lock in (shared, mine))
        mine.release()
        shared.release()
    alone = lock_folder(path, lambda: own)
    assert alone.is_held()
    alone.release()


@pytest.mark.usefixtures("file_system")
def test_nobody_shares_what_somebody_holds_alone(path: Path) -> None:
    alone = lock_folder(path)
    with pytest.raises(InUseError, match=rf"process {os.getpid()} on .* is writing here"):
        share_folder(path)
    assert alone.is_held()
    alone.release()
    share_folder(path).release()


@pytest.mark.usefixtures("file_system")
def test_whoever_tries_to_hold_a_shared_folder_alone_is_not_noticed_by_those_who_share_it(path: Path) -> None:
    own = path.with_name("own.lock")
    shared, mine = share_folder(path), lock_folder(own)
    ended, lost = threading.Event(), []

    def watch() -> None:
        while not ended.is_set():
            if not shared.is_held():
                lost.append(shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):
        with pytest.raises(InUseError):
            lock_folder(path, lambda: [own])
    ended.set()
    watcher.join()
    mine.release()
    shared.release()
    assert not lost


def test_without_locks_who_begins_to_share_while_somebody_takes_the_folder_sees_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    shared = lock._Vacancy(path)
    assert shared.is_held()
    alone = lock._Heartbeat(path)
    assert not shared.is_held()
    alone.release()


@pytest.mark.parametrize("file_system", ["no locks"], indirect=True)
@pytest.mark.usefixtures("file_system")
def test_without_locks_who_has_begun_to_share_between_look_and_lock_is_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, really, sharing = path.with_name("own.lock"), lock._Heartbeat, []

    def heartbeat(folder: Path) -> lock._Heartbeat:
        sharing.append(really(heartbeat_of(own)))
        return really(folder)

    monkeypatch.setattr(lock, "_Heartbeat", heartbeat)
    with pytest.raises(InUseError, match="is writing here"):
        lock_folder(path, lambda: [own])
    assert not heartbeat_of(path).exists()
    sharing[0].release()


HOLD = """
import fcntl, sys, time
from pathlib import Path
from gtpick_rt.output import lock
if sys.argv[2] == "no locks":
    def unsupported(*_):
        raise OSError(37, "No locks available")
    fcntl.flock = unsupported
    lock.BEAT_S = 0.05
held = lock.lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("take", [lock_folder, share_folder])
def test_a_process_that_is_killed_holds_nothing(
    path: Path, file_system: str, take: Callable[[Path], FolderLock]
) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path), file_system], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()
        with pytest.raises(UsageError, match=rf"process {holder.pid} on"):
            take(path)
        holder.kill()
        holder.wait()
    after = take(path)
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


@pytest.mark.parametrize("who", ["holder", "worker"])
@pytest.mark.usefixtures("file_system")
def test_a_lock_that_cannot_be_read_for_a_moment_is_not_taken_for_lost(
    who: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lock_folder(path)
    own = holder(path)
    is_held = {"holder": held.is_held, "worker": lambda: holder(path) == own}[who]

    def stale(name: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(name))

    with monkeypatch.context() as patched:
        patched.setattr(io, "open", stale)
        with pytest.raises(UnwritableError, match="Stale file handle"), writing_to(path.parent, is_held):
            pass
    with writing_to(path.parent, is_held):
        held.release()


def test_a_folder_that_cannot_be_written_to_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UsageError, match=r"out: the output folder cannot be locked \(Is a directory\)"):
        lock_folder(path)
