"""gtpick-rt: real-time cryo-EM particle picking.

    from pathlib import Path
    from gtpick_rt import Picker, read_micrograph

    picker = Picker.open(diameter_A=120)
    detections = picker.pick(read_micrograph(Path("image.mrc"), pixel_size_A=1.77))
    picks = detections[detections.score >= picker.spec.threshold]

Importing the package loads nothing heavy: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gtpick_rt.picker import Picker
    from gtpick_rt.reading import read_micrograph
    from gtpick_rt.spec import ModelSpec
    from gtpick_rt.types import Micrograph, Picks

    __version__: str

__all__ = ["Micrograph", "ModelSpec", "Picker", "Picks", "__version__", "read_micrograph"]

_HOME = {
    "Micrograph": "gtpick_rt.types",
    "ModelSpec": "gtpick_rt.spec",
    "Picker": "gtpick_rt.picker",
    "Picks": "gtpick_rt.types",
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
