"""One writer per output folder: a lock that the operating system takes back from a process that has died."""

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import NoReturn

from gtpick_rt.errors import UsageError

_TAKEN = (errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """The lock of an output folder, held from construction to `release`.

    Raises UsageError when another process holds it, naming that process, or when the file cannot be locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = self._take()
        except OSError as error:
            raise UsageError(
                f"{path.parent.parent}: the output folder cannot be locked ({error.strerror}); choose another --out"
            ) from error

    def _take(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                os.close(descriptor)
                self._refuse(error, holder)
            if self._is_ours(descriptor):  # it may have been removed between opening and locking
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def _refuse(self, error: OSError, holder: str) -> NoReturn:
        folder = self.path.parent.parent
        if error.errno in _TAKEN:
            raise UsageError(
                f"{folder}: {holder or 'another process'} is writing here; "
                "wait for it, stop it, or choose another --out"
            ) from error
        if error.errno in _UNSUPPORTED:
            raise UsageError(
                f"{folder}: its file system has no locks ({error.strerror}), without which two runs could mix; "
                "choose an --out on another one, or have it mounted with locks"
            ) from error
        raise error

    def check(self) -> None:
        """Raise UsageError when the folder was removed or replaced: what is written now would be lost."""
        if not self._is_ours(self._descriptor):
            raise UsageError(f"{self.path.parent.parent}: the output folder was removed while picking; run again")

    def _is_ours(self, descriptor: int) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        """Let others write."""
        os.close(self._descriptor)
