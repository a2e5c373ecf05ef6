"""Ranges that NVIDIA's Nsight Systems shows, where the package nvtx is installed."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

DOMAIN = "gtpick-rt"


def in_profile(step: str) -> AbstractContextManager[object]:
    """Show how long this step takes, in its thread; without the package nothing is done."""
    nvtx = _nvtx()
    return nullcontext() if nvtx is None else nvtx.annotate(step, domain=DOMAIN)


@cache
def _nvtx() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx
