"""Micrographs as the page gets them: numbers and texts, and never a path that
could be asked for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from gtpick_rt.following.particles import SIDE, Group
from gtpick_rt.following.records import Entry, Problem
from gtpick_rt.following.status import Status
from gtpick_rt.types import Picks

_SHOWN = tuple(field.name for field in fields(Entry) if field.name != "stem")


def status_row(status: Status) -> dict[str, Any]:
    """How the run is doing; of an adaptation also what it has come to, as a sentence."""
    row = asdict(status)
    if status.adaptation is not None:
        row["adaptation"]["told"] = status.adaptation.sentence
    return row


def row_of(entry: Entry) -> dict[str, Any]:
    """One micrograph of a list."""
    return {name: getattr(entry, name) for name in _SHOWN}


def picks_of(entry: Entry, detections: Picks, diameter_A: float | None) -> dict[str, list[Any] | float | None]:
    """All detections of a micrograph, best first: places as shares of width and height, row 0 at
    the top.

    `diameter` is the nominal diameter as a share of the width; None while it is not known.
    """
    best_first = detections[(-detections.score).argsort(kind="stable")]
    places = (best_first.xy_px.astype(float) + 0.5) / (entry.width, entry.height)
    return {
        "xy": places.round(5).tolist(),
        "score": best_first.score.astype(float).round(4).tolist(),
        "diameter": None if diameter_A is None else diameter_A / entry.pixel_size_A / entry.width,
    }


def problem_row(problem: Problem, asked: bool) -> dict[str, Any]:
    """One micrograph that failed."""
    return {
        "id": problem.id,
        "name": problem.path,
        "kind": problem.kind,
        "message": problem.message,
        "time": problem.time,
        "retry_asked": asked,
    }


def particle_rows(groups: Sequence[Group]) -> dict[str, Any]:
    """Groups of particles; `side` is that of a picture, in particle diameters."""
    shown = tuple(field.name for field in fields(Group) if field.name != "sheet")
    return {"side": SIDE, "groups": [{name: getattr(group, name) for name in shown} for group in groups]}


def to_json(value: object) -> bytes:
    """Write JSON in ASCII, whatever characters names are made of.

    Raises ValueError for what JSON has no number for.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
