"""One writer per output folder: a lock that a process that has died does not hold.

Where the file system has locks, the operating system takes them back from the dead. Where it has
none, the holder keeps a file changing, and who finds it unchanged for long enough takes over.
"""

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gtpick_rt.errors import InUseError, UsageError
from gtpick_rt.files.atomic import make_folder
from gtpick_rt.files.shared import bytes_of, remove, status_of
from gtpick_rt.output.holders import heartbeat_of, myself, text_of, text_there
from gtpick_rt.output.layout import STATE_FOLDER

BEAT_S = 5.0
"""How often a holder shows that it lives. Beats are counted, for the clocks of two machines may
differ by years."""
_MISSED = 5
"""Beats without which it is dead."""
_TRIES = 20
"""Where the folder is removed between making and locking it."""
_TAKEN = (errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock(Protocol):
    """The lock of an output folder, held until `release`."""

    def is_held(self) -> bool:
        """False once the folder was removed or replaced, or another process has taken over.

        Raises OSError.
        """
        ...

    def release(self) -> None:
        """Let others write."""
        ...


def lock_folder(path: Path, sharers: Callable[[], Iterable[Path]] = tuple) -> FolderLock:
    """Hold the folder whose lock is the file `path`, alone.

    `sharers` gives the locks of those who may share it, each held by its own process for as long as
    it does.

    Raises InUseError when another process holds it, naming that process, or UsageError when nothing
    can be written.
    """
    return _locked(path, lambda: _Flock(path), lambda: _alone(path, sharers))


def share_folder(path: Path) -> FolderLock:
    """Keep out whoever wants to hold the folder whose lock is the file `path`, but none of those
    who share it.

    Who shares it takes a lock of its own after that, and asks then whether this one is held still:
    where the file system has no locks, somebody may have come to hold the folder meanwhile. Raises
    as `lock_folder`.
    """
    return _locked(path, lambda: _Flock(path, shared=True), lambda: _Vacancy(heartbeat_of(path)))


def _alone(path: Path, sharers: Callable[[], Iterable[Path]]) -> FolderLock:
    """Hold a folder where there are no locks; those who share it must not notice that somebody has
    tried.
    """
    _look_for(sharers())
    lock = _Heartbeat(heartbeat_of(path))
    try:
        _look_for(sharers())  # who came after the first look sees that the folder is held
    except BaseException:
        lock.release()
        raise
    return lock


def _look_for(sharers: Iterable[Path]) -> None:
    for path in sharers:
        _Vacancy(heartbeat_of(path))


def _locked(path: Path, lock: Callable[[], FolderLock], without_locks: Callable[[], FolderLock]) -> FolderLock:
    try:
        return _tried(path, lock, without_locks)
    except OSError as error:
        out = _out_of(path)
        raise UsageError(
            f"{out}: the output folder cannot be locked ({error.strerror}); free space, or choose another --out"
        ) from error


def _tried(path: Path, lock: Callable[[], FolderLock], without_locks: Callable[[], FolderLock]) -> FolderLock:
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):  # a run that leaves nothing behind has just removed the folder
            make_folder(path.parent)
            try:
                return lock()
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                return without_locks()
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _refused(path: Path, holder: str) -> InUseError:
    who = holder or "another process"
    return InUseError(f"{_out_of(path)}: {who} is writing here; wait for it, stop it, or choose another --out")


def _out_of(path: Path) -> Path:
    return next(each for each in path.parents if each.name == STATE_FOLDER).parent


class _Flock:
    """A lock of the operating system."""

    def __init__(self, path: Path, shared: bool = False) -> None:
        self._path, self._shared = path, shared
        self._text = f"{myself()}\n{secrets.token_hex(8)}\n"
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                self._take()
                if self.is_held():  # it may have been removed between opening and locking
                    return
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            said = os.pread(self._descriptor, 200, 0).decode(errors="replace")
            raise _refused(self._path, said.partition("\n")[0]) from error
        if self._shared:
            return
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, self._text.encode(), 0)
        os.fsync(self._descriptor)  # NFS may keep it from other machines as long as the file is open

    def is_held(self) -> bool:
        if not self._shared:  # NFS may keep locks to each machine; opening the file asks what is in it now
            return bytes_of(self._path) == self._text.encode()
        there, held = status_of(self._path), os.fstat(self._descriptor)
        return there is not None and (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        with suppress(OSError):
            if not self._shared and self.is_held():
                os.ftruncate(self._descriptor, 0)  # for `holders.lives`
        os.close(self._descriptor)


class _Heartbeat:
    """A folder that only one can make, with a file in it that changes as long as its
    maker lives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._mark = folder, secrets.token_hex(8)
        self._file = folder / "beat"
        while not self._made():
            _remove_dead(folder)
        self._released = threading.Event()
        self._write(0)
        self._thread = threading.Thread(target=self._beat, name="gtpick-heartbeat", daemon=True)
        self._thread.start()

    def _made(self) -> bool:
        try:
            self._folder.mkdir()
        except FileExistsError:
            return False
        return True

    def _write(self, count: int) -> None:
        new = self._file.with_name("next")
        new.write_text(f"{myself()}\n{self._mark} {count}\n")
        new.replace(self._file)

    def _beat(self) -> None:
        count = 0
        while not self._released.wait(BEAT_S):
            count += 1
            with suppress(OSError):  # the folder may be gone, or its disk be away for a moment
                if self.is_held():
                    self._write(count)

    def is_held(self) -> bool:
        return self._mark in text_there(self._file)

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if self.is_held():
                remove(self._folder)


class _Vacancy:
    """That nobody holds a folder of heartbeats."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        while folder.exists():
            _remove_dead(folder)

    def is_held(self) -> bool:
        return not self._folder.exists()

    def release(self) -> None:
        pass


def _remove_dead(folder: Path) -> None:
    """Wait for a sign of life in a folder of heartbeats. Raises InUseError when there is one."""
    beat = folder / "beat"
    before = text_of(beat)
    for _ in range(_MISSED):
        time.sleep(BEAT_S)
        now = text_of(beat)
        if now and now != before:
            raise _refused(folder, now.partition("\n")[0])
    taken = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        folder.rename(taken)  # of several that wait, one succeeds
        remove(taken)
