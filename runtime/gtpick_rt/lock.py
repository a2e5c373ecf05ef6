"""One writer per output folder: a lock that a process that has died does not hold.

Where the file system has locks, the operating system takes them back from the dead. Where it has none, the holder
keeps a file changing, and who finds it unchanged for long enough takes over.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gtpick_rt.errors import UsageError

BEAT_S = 5.0
"""How often a holder shows that it lives. Beats are counted, for the clocks of two machines may differ by years."""
_MISSED = 5
"""Beats without which it is dead."""
_TAKEN = (errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock(Protocol):
    """The lock of an output folder, held until `release`."""

    def is_held(self) -> bool:
        """False once the folder was removed or replaced, or another process has taken over. Raises OSError."""
        ...

    def release(self) -> None:
        """Let others write."""
        ...


def lock_folder(path: Path) -> FolderLock:
    """Hold the folder whose lock is the file `path`.

    Raises UsageError when another process holds it, naming that process, or when nothing can be written.
    """
    try:
        try:
            return _Flock(path)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return _Heartbeat(_heartbeat(path))
    except OSError as error:
        out = path.parent.parent
        raise UsageError(
            f"{out}: the output folder cannot be locked ({error.strerror}); choose another --out"
        ) from error


def lives(path: Path) -> bool | None:
    """Whether a process holds the folder whose lock is the file `path`, which is not touched: that could be in its way.

    None where that cannot be told, because it is said to run on another machine.
    """
    holder = _text_of(path) or _text_of(_heartbeat(path) / "beat")
    found = re.match(r"process (\d{1,9}) on (.*)", holder)
    if found is None:
        return False
    if found[2] != socket.gethostname():
        return None
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _heartbeat(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")


def _text_of(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _refused(path: Path, holder: str) -> UsageError:
    who = holder or "another process"
    return UsageError(f"{path.parent.parent}: {who} is writing here; wait for it, stop it, or choose another --out")


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


class _Flock:
    """A lock of the operating system."""

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                self._take()
            except BaseException:
                os.close(self._descriptor)
                raise
            if self.is_held():  # it may have been removed between opening and locking
                return
            os.close(self._descriptor)

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            raise _refused(self._path, holder) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{_myself()}\n".encode(), 0)

    def is_held(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)  # for `lives`
        os.close(self._descriptor)


class _Heartbeat:
    """A folder that only one can make, with a file in it that changes as long as its maker lives."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._mark = folder, secrets.token_hex(8)
        self._file = folder / "beat"
        while not self._made():
            self._remove_dead()
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

    def _remove_dead(self) -> None:
        """Wait for a sign of life. Raises UsageError when there is one."""
        before = self._read()
        for _ in range(_MISSED):
            time.sleep(BEAT_S)
            now = self._read()
            if now and now != before:
                raise _refused(self._folder, now.partition("\n")[0])
        taken = self._folder.with_name(f"{self._folder.name}.{self._mark}")
        with suppress(FileNotFoundError):
            self._folder.rename(taken)  # of several that wait, one succeeds
            shutil.rmtree(taken)

    def _write(self, count: int) -> None:
        new = self._file.with_name("next")
        new.write_text(f"{_myself()}\n{self._mark} {count}\n")
        new.replace(self._file)

    def _read(self) -> str:
        with suppress(FileNotFoundError):
            return self._file.read_text(errors="replace")
        return ""

    def _beat(self) -> None:
        count = 0
        while not self._released.wait(BEAT_S):
            count += 1
            with suppress(OSError):  # the folder may be gone, or its disk be away for a moment
                if self.is_held():
                    self._write(count)

    def is_held(self) -> bool:
        return self._mark in self._read()

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if self.is_held():
            shutil.rmtree(self._folder)
