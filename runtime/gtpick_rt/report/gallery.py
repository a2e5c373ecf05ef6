"""Micrographs with their picks, small enough to be sent."""

import io
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from gtpick_rt.errors import UsageError
from gtpick_rt.following.history import History
from gtpick_rt.following.images import detections_of, preview_of
from gtpick_rt.following.records import Entry
from gtpick_rt.output.overlay import bar_length_nm
from gtpick_rt.records import counted
from gtpick_rt.report.drawing import element
from gtpick_rt.types import Picks

SIDE_PX = 640
"""Long side of a picture."""
_QUALITY = 60
_EACH, _EACH_FLAG = 4, 2
_MOST_CIRCLES = 2000
SCORES = (0.3, 0.6, 0.9)
_RGB = ((86, 180, 233), (240, 228, 66), (213, 94, 0))
"""Sky blue, yellow and vermilion of the Okabe-Ito palette for these scores, as in the overlays and
the monitor."""
_SHADES = 20


@dataclass(frozen=True)
class Group:
    """Micrographs that are shown together."""

    title: str
    note: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Card:
    """One micrograph of the gallery."""

    entry: Entry
    picture: Markup


def choose(entries: Sequence[Entry]) -> list[Group]:
    """Choose the best, the middle and the worst of those without flags, of all where there are
    none, and others with each flag.
    """
    unflagged = [entry for entry in entries if not entry.flags]
    of = "without flags" if unflagged else "all have flags"
    ranked = sorted(unflagged or entries, key=merit, reverse=True)
    n = min(_EACH, math.ceil(len(ranked) / 3))
    best, rest = ranked[:n], ranked[n:]
    worst, rest = rest[-n:], rest[:-n]
    start = max(0, (len(rest) - n) // 2)
    middle = rest[start : start + n]
    shown = {entry.id for entry in (*best, *middle, *worst)}
    flagged: dict[int, Entry] = {}
    for flag in sorted({flag for entry in entries for flag in entry.flags}):
        having = [entry for entry in entries if flag in entry.flags]
        some = having[:: math.ceil(len(having) / _EACH_FLAG)]
        flagged |= {entry.id: entry for entry in some if entry.id not in shown}
    groups = [
        Group("Best", f"most picks, weighted by their median score; {of}", best),
        Group("Middle", "around the median of the same figure", middle),
        Group("Worst", f"least of the same figure; {of}", worst[::-1]),
        Group("Flagged", f"up to {_EACH_FLAG} with each quality flag", list(flagged.values())),
    ]
    return [group for group in groups if group.entries]


def merit(entry: Entry) -> float:
    """How many particles its picks promise."""
    return entry.picks * (1.0 if entry.median_score is None else entry.median_score)


def card(history: History, entry: Entry, threshold: float, diameter_A: float | None) -> Card:
    """Draw a micrograph with its picks as circles of the nominal diameter or, without that, of each
    pick's own.
    """
    width = SIDE_PX
    height = max(1, round(SIDE_PX * entry.height / entry.width))
    parts = []
    jpeg = shrink(preview_of(history.out, entry))
    if jpeg is None:
        parts.append(element("rect", class_="no-preview", width=width, height=height))
        label = "no preview is kept"
    else:
        data = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
        parts.append(element("image", href=data, width=width, height=height, preserveAspectRatio="none"))
        label = f"{counted(entry.picks, 'pick')} drawn as circles"
    try:
        detections = detections_of(history.out, entry)
        parts.append(_circles(entry, detections[detections.score >= threshold], diameter_A))
    except UsageError:
        label += "; its picks are not kept"
    parts.append(_scale_bar(entry, height))
    view = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria_label": f"{entry.name}: {label}"}
    return Card(entry, element("svg", *parts, class_="micrograph", **view))


def shrink(preview: bytes | None) -> bytes | None:
    """Make a grey JPEG with at most `SIDE_PX` pixels on its long side.

    None of what is no picture.
    """
    if preview is None:
        return None
    try:
        with Image.open(io.BytesIO(preview), formats=("JPEG",)) as picture:
            picture.thumbnail((SIDE_PX, SIDE_PX))
            jpeg = io.BytesIO()
            picture.convert("L").save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
            return jpeg.getvalue()
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _circles(entry: Entry, picks: Picks, diameter_A: float | None) -> Markup:
    """The best ones, grouped by the shade of their score."""
    best = picks[(-picks.score).argsort(kind="stable")[:_MOST_CIRCLES]]
    zoom = SIDE_PX / entry.width
    centres = ((best.xy_px.astype(float) + 0.5) * zoom).round(1)
    diameters = best.diameter_px if diameter_A is None else np.full(len(best), diameter_A / entry.pixel_size_A)
    radii = (diameters.astype(float) * zoom / 2).round(1)
    shades = (best.score.astype(float) * _SHADES).round() / _SHADES
    groups = []
    for shade in np.unique(shades).tolist():
        rings = [
            element("circle", cx=x, cy=y, r=r)
            for (x, y), r, own in zip(centres.tolist(), radii.tolist(), shades.tolist(), strict=True)
            if own == shade
        ]
        groups.append(element("g", *rings, stroke=colour(shade)))
    return element("g", *groups, class_="circles")


def colour(score: float) -> str:
    """The colour of a score."""
    channels = (round(float(np.interp(score, SCORES, channel))) for channel in zip(*_RGB, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def _scale_bar(entry: Entry, height: int) -> Markup:
    """A bar of a round length, about a fifth of the width."""
    width_nm = entry.width * entry.pixel_size_A / 10
    length_nm = bar_length_nm(width_nm)
    long = round(SIDE_PX * length_nm / width_nm, 1)
    bar = element("rect", x=16, y=height - 20, width=long, height=6)
    return element("g", bar, element("text", f"{length_nm:g} nm", x=16, y=height - 30), class_="scale-bar")
