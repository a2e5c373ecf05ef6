"""Where a request does not want picks."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtpick_rt.detection.exclusion import Exclusion, parse_flags, parse_margin
from gtpick_rt.errors import MicrographError, UsageError
from gtpick_rt.output.summary import Settings
from gtpick_rt.picking.request import Request
from gtpick_rt.reading.masks import SUFFIXES, read_pixels


def exclusion_of(request: Request, previous: Settings | None) -> Exclusion:
    """As asked for; what is not asked for is as for the picks that are there.

    Raises UsageError.
    """
    exclusion = Exclusion() if previous is None else previous.exclusion
    if request.margin is not None:
        exclusion = replace(exclusion, margin=parse_margin(request.margin))
    if request.mask is not None:
        exclusion = replace(exclusion, **_mask(request.mask))
    if request.skip_flagged is not None:
        exclusion = replace(exclusion, skip_flagged=parse_flags(request.skip_flagged))
    return replace(exclusion, avoid_contamination=exclusion.avoid_contamination or request.avoid_contamination)


def excluding_as(request: Request, previous: Settings) -> Request:
    """The request, which says itself where the picks that are there were not wanted. Raises
    UsageError.
    """
    found = exclusion_of(request, previous)
    return replace(
        request,
        margin=found.margin,
        mask=None if found.mask is None else Path(found.mask),
        skip_flagged=found.flags,
        avoid_contamination=found.avoid_contamination,
    )


def _mask(path: Path) -> dict[str, Any]:
    """The settings of a mask, or of a folder of masks."""
    where = str(path.absolute())
    if path.is_dir():
        return {"mask": where, "mask_sha256": None}
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--mask {path}: neither a mask ({' or '.join(SUFFIXES)}) nor a folder of masks")
    if not path.exists():
        raise UsageError(f"--mask {path}: no such file or folder")
    try:
        read_pixels(path)
    except MicrographError as error:
        raise UsageError(f"--mask {error}") from error
    return {"mask": where, "mask_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
