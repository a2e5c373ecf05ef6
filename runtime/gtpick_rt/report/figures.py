"""The charts of the report."""

import math
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from gtpick_rt.detection.quality import FLAGS
from gtpick_rt.following.charts import UNUSUAL, Histogram, Histograms, Outlier, Trends
from gtpick_rt.following.records import Entry
from gtpick_rt.output.summary import Outcome
from gtpick_rt.records import averaged, counted
from gtpick_rt.report.drawing import (
    FOOT_PX,
    TOP_PX,
    Frame,
    band,
    chart,
    columns,
    element,
    line,
    mark,
    numbered,
    ticks,
)

_ROW_PX = 18
_NAMES_PX = 78
"""Room for the names of the flags, beside all trends, so that these lie below each other."""
MOST_ALONE = 300
"""Micrographs up to which every flagged one is marked in the trend; beyond that flags have their
own rows alone."""


def _middles(trends: Trends) -> list[float]:
    width = trends.per_bin
    return [(start + min(start + width, trends.micrographs)) / 2 for start in range(0, trends.micrographs, width)]


def trend_of_picks(trends: Trends, entries: Sequence[Entry]) -> Markup:
    """Median and quartiles of picks per micrograph in the order of acquisition, and those that
    stand out.
    """
    alone = trends.micrographs <= MOST_ALONE
    shown = [each for each in trends.outliers if alone or abs(each.z) > UNUSUAL]
    top = max([*trends.picks_q75, *(each.picks for each in shown), 1]) * 1.05
    frame = Frame(0, trends.micrographs, 0, top, height_px=150, scale_px=_NAMES_PX)
    middles = _middles(trends)
    marks = [line(frame, list(zip(middles, trends.picks_median, strict=True)))]
    if trends.per_bin > 1:
        marks.insert(0, band(frame, middles, trends.picks_q25, trends.picks_q75))
    marks += [_outlier(frame, each, entries[each.index]) for each in shown]
    label = (
        f"Picks per micrograph in the order of acquisition: medians from {averaged(min(trends.picks_median))} "
        f"to {averaged(max(trends.picks_median))}; unusual or flagged: {len(trends.outliers)}"
    )
    return chart(
        frame, label, marks, numbered(ticks(0, top, whole=True)), numbered(ticks(0, trends.micrographs, whole=True))
    )


def _outlier(frame: Frame, outlier: Outlier, entry: Entry) -> Markup:
    told = ", ".join([f"{entry.name}: {counted(outlier.picks, 'pick')}", *outlier.flags])
    kind = "outlier unusual" if abs(outlier.z) > UNUSUAL else "outlier"
    place = {"cx": f"{frame.x(outlier.index + 0.5)}%", "cy": frame.y(outlier.picks), "r": 4}
    return element("circle", element("title", told), class_=kind, **place)


def trend_of_scores(trends: Trends) -> Markup | None:
    """Median score of the picks in the order of acquisition; None where no micrograph has one."""
    known = [score for score in trends.median_score if score is not None]
    if not known:
        return None
    bottom = math.floor(min(known) * 5) / 5
    frame = Frame(0, trends.micrographs, bottom, max(1.0, *known), height_px=120, scale_px=_NAMES_PX)
    curve = line(frame, list(zip(_middles(trends), trends.median_score, strict=True)))
    label = f"Median score of the picks in the order of acquisition, from {min(known):.2f} to {max(known):.2f}"
    return chart(frame, label, [curve], numbered(ticks(bottom, 1)), numbered(ticks(0, trends.micrographs, whole=True)))


def trend_of_flags(trends: Trends) -> Markup | None:
    """Share of each flag in the order of acquisition, a row for each; None where there is none."""
    flags = [flag for flag in FLAGS if flag in trends.flags]
    flags += [flag for flag in trends.flags if flag not in FLAGS]
    if not flags:
        return None
    height_px = TOP_PX + FOOT_PX + _ROW_PX * len(flags)
    frame = Frame(0, trends.micrographs, 0, len(flags), height_px, _NAMES_PX)
    marks = []
    for row, flag in enumerate(flags):
        y = TOP_PX + row * _ROW_PX
        boxes = []
        for at, share in enumerate(trends.flags[flag]):
            if share:
                x = frame.x(at * trends.per_bin)
                size = {"width": f"{max(frame.x((at + 1) * trends.per_bin) - x, 0.3):.3f}%", "height": _ROW_PX - 4}
                boxes.append(element("rect", x=f"{x}%", y=y + 2, opacity=round(0.25 + 0.75 * share, 2), **size))
        marks.append(element("g", *boxes, class_="share", data_flag=flag))
    down = [(len(flags) - row - 0.5, flag) for row, flag in enumerate(flags)]
    label = f"Share of micrographs with each quality flag in the order of acquisition: {', '.join(flags)}"
    return chart(frame, label, marks, down, numbered(ticks(0, trends.micrographs, whole=True)))


def score_histogram(found: Histograms) -> Markup:
    """Scores of all detections; columns grow with the square root, so that few are seen beside
    many.
    """
    roots = [math.sqrt(count) for count in found.score.counts]
    frame = Frame(0, 1, 0, max([*roots, 1]))
    down = [(root, f"{root * root:,.0f}") for root in ticks(0, frame.top)]
    marks = [
        columns(frame, found.score.edges, roots, found.threshold),
        mark(frame, found.threshold, f"threshold {found.threshold:.2f}"),
    ]
    label = (
        f"Histogram of the scores of {counted(sum(found.score.counts), 'detection')}, threshold {found.threshold:.2f}"
    )
    return chart(frame, label, marks, down, numbered(ticks(0, 1)))


def picks_left(found: Histograms) -> Markup:
    """Picks per micrograph that would be left at any threshold."""
    frame = Frame(0, 1, 0, max([*found.left_picks, 1]) * 1.05)
    now = averaged(found.left_picks[found.left_threshold.index(found.threshold)])
    curve = line(frame, list(zip(found.left_threshold, found.left_picks, strict=True)), "series left")
    note = f"{now} left at {found.threshold:.2f}"
    label = f"Picks per micrograph left at any threshold: {now} at {found.threshold:.2f}"
    marks = [curve, mark(frame, found.threshold, note)]
    return chart(frame, label, marks, numbered(ticks(0, frame.top)), numbered(ticks(0, 1)))


def length_histogram(found: Histogram, what: str) -> Markup:
    """Lengths in Å, with their median."""
    frame = Frame(found.edges[0], found.edges[-1], 0, max([*found.counts, 1]))
    middle = _median(found)
    marks = [columns(frame, found.edges, found.counts), mark(frame, middle, f"median {middle:,.0f} Å")]
    label = f"Histogram of {what}, median {middle:,.0f} Å"
    return chart(
        frame, label, marks, numbered(ticks(0, frame.top, whole=True)), numbered(ticks(frame.left, frame.right))
    )


def _median(found: Histogram) -> float:
    """The median as told by the columns, within the one in which it lies."""
    half, before = sum(found.counts) / 2, 0
    for left, right, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        if count and before + count >= half:
            return left + (right - left) * (half - before) / count
        before += count
    return found.edges[0]


def picks_changed(found: Outcome) -> Markup:
    """Picks on each micrograph that was learned from, before and now."""
    pairs = [each.picks for each in found.changes]
    return _changed(found, pairs, max(1, *(max(pair) for pair in pairs)) * 1.05, "Picks", 0)


def scores_changed(found: Outcome) -> Markup:
    """Median score of the picks on each micrograph that was learned from, before and now."""
    return _changed(found, [each.median_score for each in found.changes], 1.0, "Median score", 2)


def _changed(
    found: Outcome, pairs: Sequence[tuple[float | None, float | None]], top: float, what: str, digits: int
) -> Markup:
    frame = Frame(0, len(pairs), 0, top)
    marks, told = [], list[str]()
    for kind, values in zip(("before", "now"), zip(*pairs, strict=True), strict=True):
        known = [value for value in values if value is not None]
        told += [f"{statistics.median(known):,.{digits}f} {kind}"] if known else []
        marks += [
            element("circle", class_=f"change {kind}", cx=f"{frame.x(at + 0.5)}%", cy=frame.y(value), r=4)
            for at, value in enumerate(values)
            if value is not None
        ]
    return chart(
        frame,
        f"{what} on each of {counted(len(pairs), 'micrograph')}: median {', '.join(told) or 'not known'}",
        [*(_step(frame, at, pair, found.changes[at].name, digits) for at, pair in enumerate(pairs)), *marks],
        numbered(ticks(0, top, whole=not digits)),
        [(0.5, "1"), (len(pairs) - 0.5, str(len(pairs)))] if len(pairs) > 1 else [(0.5, "1")],
    )


def _step(frame: Frame, at: int, pair: tuple[float | None, float | None], name: str, digits: int) -> Markup:
    """A line from the value before to the one now, with both in words; none where one is absent."""
    before, now = pair
    if before is None or now is None:
        return Markup("")
    x = f"{frame.x(at + 0.5)}%"
    told = element("title", f"{name}: {before:,.{digits}f} before, {now:,.{digits}f} now")
    return element("line", told, class_="change", x1=x, x2=x, y1=frame.y(before), y2=frame.y(now))


def stage_bar(share: float) -> Markup:
    """A bar of this share of the width."""
    bar = element("rect", class_="column", width=f"{100 * share:.2f}%", height=8, rx=2)
    return element("svg", bar, class_="stage", width="100%", height=8, aria_hidden="true")


def swatch(colour: str) -> Markup:
    """A ring of this colour, for a legend."""
    ring = element("circle", cx=7, cy=7, r=5, stroke=colour)
    return element("svg", ring, class_="swatch", width=14, height=14, aria_hidden="true")
