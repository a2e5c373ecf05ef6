"""gtpick-rt: real-time cryo-EM particle picking.

    from gtpick_rt import pick

    summary = pick("micrographs/", "picks", diameter_A=120)

does what `gtpick-rt pick` does; `open_picker` gives a `Picker` for single images in memory.

Importing the package loads nothing heavy: each name is imported when it is first used. It keeps
ONNX Runtime from reporting home, and from leaving a number of this machine in the user's home,
which is settled when that is imported.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gtpick_rt.detection.picker import Picker
    from gtpick_rt.errors import GtpickError
    from gtpick_rt.formats.coordinates import read_coordinates
    from gtpick_rt.models.spec import ModelSpec
    from gtpick_rt.output.summary import Summary
    from gtpick_rt.picking.pick import pick
    from gtpick_rt.proof.opening import open_picker
    from gtpick_rt.reading.micrographs import read_micrograph
    from gtpick_rt.records import Failure, MicrographRecord
    from gtpick_rt.types import Micrograph, Picks
    from gtpick_rt.version import __version__

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
    "open_picker",
    "pick",
    "read_coordinates",
    "read_micrograph",
]

_HOME = {
    "Failure": "gtpick_rt.records",
    "GtpickError": "gtpick_rt.errors",
    "Micrograph": "gtpick_rt.types",
    "MicrographRecord": "gtpick_rt.records",
    "ModelSpec": "gtpick_rt.models.spec",
    "Picker": "gtpick_rt.detection.picker",
    "Picks": "gtpick_rt.types",
    "Summary": "gtpick_rt.output.summary",
    "__version__": "gtpick_rt.version",
    "open_picker": "gtpick_rt.proof.opening",
    "pick": "gtpick_rt.picking.pick",
    "read_coordinates": "gtpick_rt.formats.coordinates",
    "read_micrograph": "gtpick_rt.reading.micrographs",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
