"""TensorRT engines: built from ONNX in this process, proved equal to the reference, and kept for this user alone.

An engine file is code. None is ever loaded that this user did not build here: see `cache`.
"""

from gtpick_rt.engines.building import PROFILE, Built, Profile, build
from gtpick_rt.engines.cache import Gpu
from gtpick_rt.engines.libraries import LibraryName, best_library, garbage_waits, library, logger
from gtpick_rt.engines.obtaining import Engine, engine_for

__all__ = [
    "PROFILE",
    "Built",
    "Engine",
    "Gpu",
    "LibraryName",
    "Profile",
    "best_library",
    "build",
    "engine_for",
    "garbage_waits",
    "library",
    "logger",
]
