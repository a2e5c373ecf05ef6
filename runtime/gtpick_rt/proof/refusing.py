"""What is kept of a refusal, for whoever is to find out why: one file that a user can send."""

import json
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from gtpick_rt.backends.cores import processor_name
from gtpick_rt.backends.cuda import driver_version
from gtpick_rt.backends.engines.cache import default_folder
from gtpick_rt.backends.support import versions_of
from gtpick_rt.errors import UnlikeError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.version import __version__

_PACKAGES = ("onnxruntime", "tensorrt", "cuda", "nvidia", "openvino", "numpy")
"""Whose versions answers may depend on, by the beginnings of their names."""


def machine() -> dict[str, Any]:
    """On what something was seen, and when."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": platform.platform(),
        "processor": processor_name(),
        "driver": driver_version(),
        "python": platform.python_version(),
        "packages": versions_of(*_PACKAGES),
    }


def refusal(backend: str, message: str, of: Mapping[str, Any], seen: Mapping[str, Any]) -> UnlikeError:
    """The error of a backend that is refused, which names the file that tells why.

    The file lies beside the engines, and replaces that of the same backend's last refusal.

    Args:
        backend: its name, with its device.
        message: what is wrong, and the way out.
        of: what the answers depend on, beside the machine.
        seen: the check that failed, and its figures; nothing of the user's micrographs.

    """
    name = re.sub(r"[^a-z0-9]+", "-", backend.lower()).strip("-")
    path = default_folder().with_name("refused") / f"{name}.json"
    report = {"refused": backend, "message": message, **machine(), "of": dict(of), "seen": dict(seen)}
    try:
        write_atomic(path, (json.dumps(report, indent=1) + "\n").encode())
    except OSError as error:
        return UnlikeError(f"{message}; report it: the figures cannot be kept in {path} ({error.strerror})")
    return UnlikeError(f"{message}; report it with {path}")
