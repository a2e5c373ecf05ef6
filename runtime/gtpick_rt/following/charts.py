"""The numbers behind the figures of a run, for the monitor and the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.spatial import KDTree

from gtpick_rt.errors import UsageError
from gtpick_rt.following.history import History
from gtpick_rt.following.images import detections_of
from gtpick_rt.following.records import Entry
from gtpick_rt.types import Picks

_MOST_BINS = 300
"""Of the trends; the detections of the first micrograph of each are read for the histograms."""
_WINDOW = 51
"""Neighbours in the order of acquisition that a micrograph is compared with."""
UNUSUAL = 3.5
"""Robust standard deviations from their median, as Iglewicz and Hoaglin (1993) advise."""
_MOST_OUTLIERS = 300
_SCORE_BINS, _LENGTH_BINS = 50, 40
_TAILS = (0.005, 0.995)
"""Shares of diameters and distances between which their histograms reach."""

Numbers = list[float] | list[int]


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A micrograph with unusually many or few picks, or with a flag."""

    id: int
    index: int
    """Its place among all that are picked."""
    picks: int
    z: float
    """Robust standard deviations from the median of its neighbours."""
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trends:
    """Figures in the order of acquisition, one for each bin of consecutive micrographs."""

    micrographs: int
    per_bin: int
    first_id: list[int]
    time: list[float]
    """When the first one of the bin was done."""
    picks_q25: list[float]
    picks_median: list[float]
    picks_q75: list[float]
    median_score: list[float | None]
    """Median of the micrographs' median scores; None where no micrograph of the bin has one."""
    flags: dict[str, list[float]]
    """Share of the micrographs of each bin that have a flag, for each flag that any has."""
    outliers: list[Outlier]
    """The most unusual ones, in the order of acquisition."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between neighbouring `edges`, of which there is one more."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Distributions over a sample of the micrographs."""

    micrographs: int
    """In the sample."""
    of: int
    """In all."""
    threshold: float
    score: Histogram
    """Of all detections."""
    diameter_A: Histogram
    """Of the picks, as the network measured them."""
    neighbour_A: Histogram
    """From each pick to the one that is nearest on its micrograph."""
    left_threshold: list[float]
    """Steps of 0.01, and `threshold` among them."""
    left_picks: list[float]
    """Picks per micrograph that are left at each `left_threshold`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The detections of one micrograph."""

    score: NDArray[np.float32]
    """Of all."""
    diameter_A: NDArray[np.float32]
    """Of the picks."""
    neighbour_A: NDArray[np.float32]
    """From each pick to the nearest other one."""


def per_bin(count: int) -> int:
    """How many consecutive micrographs make a bin: a power of two, so that bins stay when others
    come.
    """
    width = 1
    while width * _MOST_BINS < count:
        width *= 2
    return width


def unusual(entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Robust z of the number of picks of each micrograph among its neighbours, `(n,)`."""
    picks = np.fromiter((entry.picks for entry in entries), np.float64, len(entries))
    if not len(picks):
        return picks
    window = min(_WINDOW, len(picks))
    median = median_filter(picks, window, mode="mirror")
    spread = 1.4826 * median_filter(np.abs(picks - median), window, mode="mirror")
    at_least = np.sqrt(np.maximum(median, 1))  # counts scatter by chance
    return (picks - median) / np.maximum(spread, at_least)


def is_outlier(entries: Sequence[Entry]) -> NDArray[np.bool_]:
    """Whether each micrograph has unusually many or few picks, or a flag, `(n,)`."""
    flagged = np.fromiter((bool(entry.flags) for entry in entries), np.bool_, len(entries))
    return (np.abs(unusual(entries)) > UNUSUAL) | flagged


def trends(entries: Sequence[Entry]) -> Trends:
    """Bin all micrographs, which are in the order of acquisition."""
    width = per_bin(len(entries))
    bins = [entries[start : start + width] for start in range(0, len(entries), width)]
    quartiles = [np.percentile([entry.picks for entry in each], (25, 50, 75)).tolist() for each in bins]
    flags = sorted({flag for entry in entries for flag in entry.flags})
    return Trends(
        micrographs=len(entries),
        per_bin=width,
        first_id=[each[0].id for each in bins],
        time=[each[0].time for each in bins],
        picks_q25=[low for low, _, _ in quartiles],
        picks_median=[middle for _, middle, _ in quartiles],
        picks_q75=[high for _, _, high in quartiles],
        median_score=[_median([e.median_score for e in each if e.median_score is not None]) for each in bins],
        flags={flag: [sum(flag in entry.flags for entry in each) / len(each) for each in bins] for flag in flags},
        outliers=_outliers(entries),
    )


def _outliers(entries: Sequence[Entry]) -> list[Outlier]:
    z = unusual(entries)
    candidates = np.flatnonzero(is_outlier(entries))
    chosen = sorted(candidates[np.argsort(-np.abs(z[candidates]), kind="stable")][:_MOST_OUTLIERS].tolist())
    return [
        Outlier(id=entries[i].id, index=i, picks=entries[i].picks, z=round(float(z[i]), 2), flags=entries[i].flags)
        for i in chosen
    ]


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


class Sampler:
    """Reads the detections of some micrographs spread over a run; what was read is kept, for one
    thread at a time.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._kept: dict[tuple[Entry, float], Sample] = {}

    def histograms(self, entries: Sequence[Entry], threshold: float) -> Histograms:
        """Distributions over at most 300 of these micrographs; those whose detections cannot be
        read are left out.
        """
        chosen = entries[:: per_bin(len(entries))]
        kept = {}
        for entry in chosen:
            key = (entry, threshold)
            sample = self._kept.get(key) or self._read(entry, threshold)
            if sample is not None:
                kept[key] = sample
        self._kept = kept
        return histograms(list(kept.values()), len(entries), threshold)

    def _read(self, entry: Entry, threshold: float) -> Sample | None:
        try:
            return sample_of(detections_of(self._history.out, entry), entry.pixel_size_A, threshold)
        except UsageError:
            return None


def sample_of(detections: Picks, pixel_size_A: float, threshold: float) -> Sample:
    """What the histograms need of a micrograph."""
    picks = detections[detections.score >= threshold]
    nearest = np.zeros(0, np.float32)
    if len(picks) > 1:
        distance, _ = KDTree(picks.xy_px).query(picks.xy_px, k=[2])
        nearest = np.asarray(distance, np.float32)[:, 0]
    return Sample(detections.score, picks.diameter_px * np.float32(pixel_size_A), nearest * np.float32(pixel_size_A))


def histograms(samples: Sequence[Sample], of: int, threshold: float) -> Histograms:
    """Distributions over these samples, of so many micrographs."""
    none = np.zeros(0, np.float32)
    score, diameter_A, neighbour_A = (
        np.concatenate([none, *(getattr(sample, name) for sample in samples)])
        for name in ("score", "diameter_A", "neighbour_A")
    )
    counts, edges = np.histogram(score.astype(float), _SCORE_BINS, (0, 1))
    steps = np.union1d(np.linspace(0, 1, 101).round(2), threshold)
    left = len(score) - np.searchsorted(np.sort(score), steps.astype(np.float32))
    return Histograms(
        micrographs=len(samples),
        of=of,
        threshold=threshold,
        score=Histogram(edges=edges.round(4).tolist(), counts=counts.tolist()),
        diameter_A=_histogram(diameter_A),
        neighbour_A=_histogram(neighbour_A),
        left_threshold=steps.tolist(),
        left_picks=(left / max(len(samples), 1)).round(3).tolist(),
    )


def _histogram(values: NDArray[np.float32]) -> Histogram:
    low, high = np.quantile(values, _TAILS).tolist() if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    counts, edges = np.histogram(values.astype(float), _LENGTH_BINS, (max(low - margin, 0.0), high + margin))
    return Histogram(edges=edges.round(3).tolist(), counts=counts.tolist())
