"""Processes that are killed, from outside or at a moment of their own work."""

import faulthandler
import os
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable
from io import BufferedWriter, TextIOWrapper
from types import FrameType
from typing import Any

_INTERRUPTS = (signal.SIGINT,)
ENDS_WITHIN_S = 60.0
"""A process that was told to end, or has little to do, and is there still has come to a
standstill."""


def forked(work: Callable[[], None]) -> int:
    """Do this in another process, which is as warm as this one; returns its number."""
    # A signal that comes early must not make the child unwind what the parent was doing.
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.enable()  # see `status_of`
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    return child


def status_of(child: int) -> int:
    """Wait for a process; one that does not end prints where its threads stand, and is aborted."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    os.kill(child, signal.SIGABRT)
    return os.waitpid(child, 0)[1]


class KillAtCall:
    """Kills this process at the n-th moment before or after a call to system, file or database."""

    def __init__(self, moment: int) -> None:
        self._left = moment

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        """Be told of a call by `sys.setprofile`."""
        if event in ("c_call", "c_return") and _touches_files(called):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _touches_files(called: Any) -> bool:
    if getattr(called, "__module__", None) == "posix":
        return called.__name__ not in ("fspath", "getpid", "stat", "lstat", "fstat")
    inside = getattr(called, "__self__", None)
    return isinstance(inside, BufferedWriter | TextIOWrapper | sqlite3.Connection | sqlite3.Cursor)
