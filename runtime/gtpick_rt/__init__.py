"""gtpick-rt: real-time cryo-EM particle picking.

    from gtpick_rt import pick

    summary = pick("micrographs/", "picks", diameter_A=120)

does what `gtpick-rt pick` does; `Picker` works on single images in memory.

Importing the package loads nothing heavy: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gtpick_rt.errors import GtpickError
    from gtpick_rt.formats import read_coordinates
    from gtpick_rt.picker import Picker
    from gtpick_rt.picking import pick
    from gtpick_rt.reading import read_micrograph
    from gtpick_rt.spec import ModelSpec
    from gtpick_rt.summary import Failure, MicrographRecord, Summary
    from gtpick_rt.types import Micrograph, Picks

    __version__: str

__all__ = [
    "Failure",
    "GtpickError",
    "Micrograph",
    "MicrographRecord",
    "ModelSpec",
    "Picker",
    "Picks",
    "Summary",
    "__version__",
    "pick",
    "read_coordinates",
    "read_micrograph",
]

_HOME = {
    "Failure": "gtpick_rt.summary",
    "GtpickError": "gtpick_rt.errors",
    "Micrograph": "gtpick_rt.types",
    "MicrographRecord": "gtpick_rt.summary",
    "ModelSpec": "gtpick_rt.spec",
    "Picker": "gtpick_rt.picker",
    "Picks": "gtpick_rt.types",
    "Summary": "gtpick_rt.summary",
    "pick": "gtpick_rt.picking",
    "read_coordinates": "gtpick_rt.formats",
    "read_micrograph": "gtpick_rt.reading",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gtpick-rt")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
