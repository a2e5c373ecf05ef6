"""The libraries of the TensorRT family: full TensorRT, and TensorRT-RTX.

They share one programming interface.
"""

import gc
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

from gtpick_rt.backends.cuda import driver_version
from gtpick_rt.backends.support import install_command
from gtpick_rt.errors import BackendError

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[LibraryName, ...] = get_args(LibraryName)
_ERRORS = ("INTERNAL_ERROR", "ERROR")
_MOST_ERRORS = 20


@dataclass(frozen=True)
class _Needed:
    module: str
    least: tuple[int, int]
    below: tuple[int, int]

    @property
    def versions(self) -> str:
        return f">={self.least[0]}.{self.least[1]},<{self.below[0]}"


_NEEDED: dict[LibraryName, _Needed] = {
    "tensorrt": _Needed("tensorrt", least=(10, 12), below=(12, 0)),
    "tensorrt-rtx": _Needed("tensorrt_rtx", least=(1, 4), below=(2, 0)),
}


def library(name: LibraryName) -> Any:
    """Import the library.

    Raises BackendError where it is absent, broken or of a version that is not supported.
    """
    needed = _NEEDED[name]
    try:
        module = import_module(needed.module)
    except (ImportError, OSError) as error:  # OSError: its shared libraries are missing
        raise BackendError(f"{name} is not usable here ({error}): {way_out(name)}") from error
    version = str(module.__version__)
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if not needed.least <= found < needed.below:
        raise BackendError(f"{name} {version} is installed, but {needed.versions} is needed: {way_out(name)}")
    return module


def way_out(name: LibraryName) -> str:
    """The command that installs it, with the driver that is here."""
    return install_command(name, driver_version())


def best_library() -> LibraryName:
    """The first library that is installed, without importing it.

    Raises BackendError where there is none.
    """
    for name in LIBRARIES:
        if find_spec(_NEEDED[name].module) is not None:
            return name
    ways = "; ".join(f"for {name} {way_out(name)}" for name in LIBRARIES)
    raise BackendError(f"neither {' nor '.join(LIBRARIES)} is installed: {ways}")


class _Collecting:
    """How many have asked that no garbage is collected, and what was so before the first."""

    def __init__(self) -> None:
        self._lock, self._waiting, self._before = threading.Lock(), 0, True

    def stop(self) -> None:
        with self._lock:
            if not self._waiting:
                self._before = gc.isenabled()
                gc.disable()
            self._waiting += 1

    def go_on(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting and self._before:
                gc.enable()


_COLLECTING = _Collecting()


@contextmanager
def garbage_waits() -> Iterator[None]:
    """Collect no garbage meanwhile, in whichever thread; also a decorator.

    The library calls the logger while it holds a lock that is needed, too, to free one of its
    objects: were such an object found to be garbage in that very call, both would wait for ever.
    """
    _COLLECTING.stop()
    try:
        yield
    finally:
        _COLLECTING.go_on()


@cache
def logger(trt: Any) -> Any:
    """The logger of a library in this process, which keeps errors instead of printing them.

    There is one, for the library heeds the first that it is given and no other.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: dict[int, deque[str]] = {}  # by the thread in which they were logged

        def log(self, severity: Any, message: str) -> None:
            if severity.name in _ERRORS:
                self.errors.setdefault(threading.get_ident(), deque(maxlen=_MOST_ERRORS)).append(message)

        def taken(self) -> str:
            """The errors since this was last asked, or since what was done last went well: those of
            this thread and of the library's own. Another of ours runs an engine, too, and asks for
            its own.
            """
            others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
            told = [self.errors.pop(thread, ()) for thread in tuple(self.errors) if thread not in others]
            return "; ".join(message for each in told for message in each)

    return Logger()
