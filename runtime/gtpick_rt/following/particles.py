"""Particles by score, as a person judges a threshold: the best, those at the threshold, and those
just below it.

They are cut out of the previews, which are the image as the network saw it, so that nothing has to
be read again.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gtpick_rt.errors import UsageError
from gtpick_rt.following.history import History
from gtpick_rt.following.images import detections_of, preview_of
from gtpick_rt.following.records import Entry
from gtpick_rt.types import Picks

CELL_PX = 48
"""Side of a particle's picture."""
COLUMNS, ROWS = 12, 2
"""Particles that are shown of a group."""
MOST_MICROGRAPHS = 12
"""Spread over the run, that particles are taken from."""
_MOST_MEAN = 120
"""Particles that are averaged in a group; of few, a third."""
SIDE = 1.6
"""Of a picture, in particle diameters."""
_QUALITY = 80
_TITLES = ("Best", "At the threshold", "Just below it")

Pictures = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Particles of about the same score."""

    title: str
    count: int
    """How many are averaged."""
    low: float
    high: float
    """Their lowest and highest score."""
    profile: list[float]
    """Mean grey value of the mean particle by distance from the centre, from the centre to a side:
    0 is that of the surroundings, and particles are dark."""
    sheet: bytes
    """The mean, twice as large, and beside it particles one by one; a grey JPEG."""


@dataclass(frozen=True, eq=False)
class _Looked:
    preview: Image.Image
    """Grey."""
    detections: Picks
    """Those that can be cut out whole."""
    zoom: tuple[float, float]
    """Pixels of the preview per pixel of the micrograph, across and down."""
    side_px: float
    """Of a picture, in pixels of the micrograph."""


def particle_groups(
    history: History, entries: Sequence[Entry], threshold: float, diameter_A: float | None
) -> list[Group]:
    """Cut out particles of some micrographs; none where neither pictures nor detections are kept,
    or the diameter is not known.
    """
    if diameter_A is None:
        return []
    chosen = entries[:: max(1, -(-len(entries) // MOST_MICROGRAPHS))]
    looked = [each for entry in chosen if (each := _look(history, entry, diameter_A)) is not None]
    groups = [_group(title, looked, threshold) for title in _TITLES]
    return [group for group in groups if group is not None]


def _look(history: History, entry: Entry, diameter_A: float) -> _Looked | None:
    data = preview_of(history.out, entry)
    try:
        if data is None:
            return None
        detections = detections_of(history.out, entry)
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            preview = opened.convert("L")
    except (UsageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    side_px = SIDE * diameter_A / entry.pixel_size_A
    x, y = detections.xy_px.T + 0.5
    r = side_px / 2
    whole = (x >= r) & (x <= entry.width - r) & (y >= r) & (y <= entry.height - r)
    zoom = (preview.width / entry.width, preview.height / entry.height)
    return _Looked(preview, detections[whole], zoom, side_px)


def _group(title: str, looked: Sequence[_Looked], threshold: float) -> Group | None:
    every = np.concatenate([np.zeros(0, np.float32), *(one.detections.score for one in looked)])
    of = np.repeat(np.arange(len(looked)), [len(one.detections) for one in looked])
    ranked = _ranked(title, every, threshold)
    chosen = np.sort(ranked[: min(_MOST_MEAN, max(COLUMNS * ROWS, len(ranked) // 3))])
    if not len(chosen):
        return None
    starts = np.searchsorted(of, np.arange(len(looked)))
    cut = [_cut(one, one.detections[chosen[of[chosen] == n] - starts[n]]) for n, one in enumerate(looked)]
    pictures, score = np.concatenate(cut), every[chosen]
    mean = pictures.mean(axis=0)
    return Group(
        title=title,
        count=len(score),
        low=round(float(score.min()), 4),
        high=round(float(score.max()), 4),
        profile=radial_profile(mean),
        sheet=_sheet(mean, pictures[_ranked(title, score, threshold)[: COLUMNS * ROWS]]),
    )


def _ranked(title: str, score: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """The places of the scores that belong to a group, those that stand for it best first."""
    above = score >= threshold
    belongs = ~above if title == _TITLES[2] else above
    order = np.argsort(score if title == _TITLES[1] else -score, kind="stable")
    return order[belongs[order]]


def _cut(one: _Looked, picks: Picks) -> Pictures:
    """`(n, CELL_PX, CELL_PX)` pictures, whatever the scale of the preview."""
    (zoom_x, zoom_y), r = one.zoom, one.side_px / 2
    cells = [
        one.preview.resize(
            (CELL_PX, CELL_PX),
            Image.Resampling.BILINEAR,
            box=((x - r) * zoom_x, (y - r) * zoom_y, (x + r) * zoom_x, (y + r) * zoom_y),
        )
        for x, y in (picks.xy_px.astype(float) + 0.5).tolist()
    ]
    return np.array([np.asarray(cell) for cell in cells], np.uint8).reshape(-1, CELL_PX, CELL_PX)


def radial_profile(picture: NDArray[np.floating]) -> list[float]:
    """Mean of a square picture over rings a pixel wide, less that of the outermost one."""
    side = len(picture)
    rows, columns = np.indices(picture.shape) - (side - 1) / 2
    ring = np.hypot(rows, columns).astype(int).ravel()
    rings = side // 2
    sums = np.bincount(ring, picture.ravel())[:rings] / np.bincount(ring)[:rings]
    return (sums - sums[-1]).round(2).tolist()


def _sheet(mean: NDArray[np.floating], pictures: Pictures) -> bytes:
    low, high = float(mean.min()), float(mean.max())
    shown = ((mean - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    side = CELL_PX * ROWS
    sheet = Image.new("L", (side + COLUMNS * CELL_PX, side), 128)
    sheet.paste(Image.fromarray(shown).resize((side, side), Image.Resampling.BICUBIC), (0, 0))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        sheet.paste(Image.fromarray(picture), (side + column * CELL_PX, row * CELL_PX))
    jpeg = io.BytesIO()
    sheet.save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()
