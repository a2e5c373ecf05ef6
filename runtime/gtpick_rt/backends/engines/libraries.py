"""The libraries of the TensorRT family: full TensorRT, and TensorRT-RTX.

They share one programming interface.
"""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

from gtpick_rt.errors import BackendError

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[LibraryName, ...] = get_args(LibraryName)
_KEPT = {"INTERNAL_ERROR": "ERROR", "ERROR": "ERROR", "WARNING": "WARNING"}


@dataclass(frozen=True)
class _Needed:
    module: str
    least: tuple[int, int]
    below: tuple[int, int]
    extra: str

    @property
    def versions(self) -> str:
        return f">={self.least[0]}.{self.least[1]},<{self.below[0]}"

    @property
    def way_out(self) -> str:
        return f"install the extra {self.extra}: pip install '.[{self.extra}]' in the clone"


_NEEDED: dict[LibraryName, _Needed] = {
    "tensorrt": _Needed("tensorrt", least=(10, 12), below=(12, 0), extra="gpu"),
    "tensorrt-rtx": _Needed("tensorrt_rtx", least=(1, 4), below=(2, 0), extra="rtx"),
}


def library(name: LibraryName) -> Any:
    """Import the library.

    Raises BackendError where it is absent, broken or of a version that is not supported.
    """
    needed = _NEEDED[name]
    try:
        module = import_module(needed.module)
    except (ImportError, OSError) as error:  # OSError: its shared libraries are missing
        raise BackendError(f"{name} is not usable here ({error}): {needed.way_out}") from error
    version = str(module.__version__)
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if not needed.least <= found < needed.below:
        raise BackendError(f"{name} {version} is installed, but {needed.versions} is needed: {needed.way_out}")
    return module


def best_library() -> LibraryName:
    """The first library that is installed, without importing it.

    Raises BackendError where there is none.
    """
    for name in LIBRARIES:
        if find_spec(_NEEDED[name].module) is not None:
            return name
    ways = "; ".join(f"for {name} {needed.way_out}" for name, needed in _NEEDED.items())
    raise BackendError(f"neither {' nor '.join(LIBRARIES)} is installed: {ways}")


@contextmanager
def garbage_waits() -> Iterator[None]:
    """Collect no garbage meanwhile; also a decorator.

    The library calls the logger while it holds a lock that is needed, too, to free one of its
    objects: were such an object found to be garbage in that very call, both would wait for ever.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def logger(trt: Any) -> Any:
    """Make a logger that keeps errors and warnings in `lines`, by severity, instead of printing
    them.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: dict[str, list[str]] = {}

        def log(self, severity: Any, message: str) -> None:
            if severity.name in _KEPT:
                self.lines.setdefault(_KEPT[severity.name], []).append(message)

        def told(self, severity: str) -> str:
            return "; ".join(self.lines.get(severity, ()))

    return Logger()
