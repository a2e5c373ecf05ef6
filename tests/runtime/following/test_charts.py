"""The numbers behind the figures are those of the micrographs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.following import charts
from gtpick_rt.following.history import History
from gtpick_rt.following.records import Entry
from gtpick_rt.output.layout import detections_path
from gtpick_rt.types import Picks

ENTRY = Entry(
    id=0,
    stem="m",
    name="m.mrc",
    time=0.0,
    width=300,
    height=200,
    pixel_size_A=2.0,
    picks=100,
    detections=150,
    seconds=1.0,
    lag_s=1.0,
    median_score=0.8,
    flags=(),
    warnings=(),
)


def entries_of(picks: Sequence[int]) -> list[Entry]:
    """Micrographs with so many picks each; ids have gaps."""
    return [replace(ENTRY, id=2 * i + 1, stem=f"m{i}", time=float(i), picks=n) for i, n in enumerate(picks)]


def test_a_few_micrographs_are_a_bin_each() -> None:
    entries = entries_of([3, 1, 2])
    entries[1] = replace(entries[1], flags=("ice", "empty"), median_score=None)
    found = charts.trends(entries)
    assert (found.per_bin, found.first_id, found.time) == (1, [1, 3, 5], [0, 1, 2])
    assert found.picks_q25 == found.picks_median == found.picks_q75 == [3, 1, 2]
    assert found.median_score == [0.8, None, 0.8]
    assert found.flags == {"empty": [0, 1, 0], "ice": [0, 1, 0]}
    assert [(each.id, each.index, each.picks) for each in found.outliers] == [(3, 1, 1)]


def test_many_are_binned_by_quartiles() -> None:
    found = charts.trends(entries_of([0, 10, 20, 30] * 301))
    assert found.per_bin == 8
    assert len(found.picks_median) == 151
    assert (found.picks_q25[0], found.picks_median[0], found.picks_q75[0]) == (7.5, 15, 22.5)
    assert found.first_id[1] == 17


@given(st.integers(0, 10**6))
def test_there_are_never_more_than_300_bins(count: int) -> None:
    width = charts.per_bin(count)
    assert -(-count // width) <= 300
    assert width == 1 or -(-count // (width // 2)) > 300


def test_bins_stay_when_others_come() -> None:
    picks = np.random.default_rng(0).integers(50, 150, 599).tolist()
    before, after = (charts.trends(entries_of(picks[:n])) for n in (580, 599))
    assert after.picks_median[:290] == before.picks_median


def test_nothing_gives_empty_figures() -> None:
    found = charts.trends([])
    assert (found.micrographs, found.first_id, found.flags, found.outliers) == (0, [], {}, [])
    json.dumps(asdict(charts.histograms([], 0, 0.5)), allow_nan=False)


@pytest.mark.parametrize(("picks", "unusual"), [(0, True), (80, False), (120, False), (400, True)])
def test_a_micrograph_unlike_its_neighbours_is_unusual(picks: int, unusual: bool) -> None:
    counts = np.random.default_rng(1).poisson(100, 300)
    counts[200] = picks
    z = charts.unusual(entries_of(counts.tolist()))
    assert bool(abs(z[200]) > 3.5) is unusual
    assert (np.sign(z[200]) == np.sign(picks - 100)) or not unusual
    assert (np.abs(np.delete(z, 200)) > 3.5).sum() <= 2


def test_a_slow_drift_is_not_unusual() -> None:
    counts = np.random.default_rng(2).poisson(np.linspace(50, 400, 1000))
    assert charts.is_outlier(entries_of(counts.tolist())).mean() < 0.01


@given(st.lists(st.integers(0, 10**6), max_size=120))
def test_whatever_the_counts_z_is_finite(picks: list[int]) -> None:
    z = charts.unusual(entries_of(picks))
    assert z.shape == (len(picks),)
    assert np.isfinite(z).all()


def test_unusual_counts_come_before_flags_where_there_are_too_many_outliers() -> None:
    entries = [replace(entry, flags=("crowded",)) for entry in entries_of([100] * 500)]
    entries[490] = replace(entries[490], picks=900)
    found = charts.trends(entries).outliers
    assert len(found) == 300
    assert found[-1].id == entries[490].id
    assert [each.index for each in found] == sorted(each.index for each in found)


def picks_at(xy: Sequence[tuple[float, float]], score: Sequence[float]) -> Picks:
    """Detections of 50 px."""
    return Picks(np.array(xy, np.float32), np.full(len(xy), 50, np.float32), np.array(score, np.float32))


def test_distances_and_diameters_are_those_of_the_picks_in_angstrom() -> None:
    detections = picks_at([(0, 0), (30, 40), (30, 41), (300, 40)], [0.9, 0.8, 0.1, 0.5])
    sample = charts.sample_of(detections, 2.0, 0.5)
    assert sample.neighbour_A.tolist() == [100, 100, 540]
    assert sample.diameter_A.tolist() == [100] * 3
    assert len(sample.score) == 4
    assert len(charts.sample_of(detections[:1], 2.0, 0.5).neighbour_A) == 0


def test_picks_left_at_a_threshold_are_those_with_that_score_or_more() -> None:
    sample = charts.sample_of(picks_at([(i, i) for i in range(4)], [0.1, 0.25, 0.5, 1.0]), 1.0, 0.3)
    found = charts.histograms([sample, sample], 7, 0.3)
    left = dict(zip(found.left_threshold, found.left_picks, strict=True))
    assert (left[0.0], left[0.1], left[0.11], left[0.25], left[0.5], left[0.51], left[1.0]) == (4, 4, 3, 3, 2, 1, 1)
    assert (found.micrographs, found.of, found.threshold) == (2, 7, 0.3)
    assert sum(found.score.counts) == 8
    assert sum(found.diameter_A.counts) == 4


@pytest.mark.parametrize(("threshold", "left"), [(0.4912, 3), (0.4988, 2), (0.49, 3), (1.0, 0)])
def test_picks_left_at_the_threshold_in_force_are_those_that_were_picked(threshold: float, left: int) -> None:
    """It need not be one of the steps."""
    sample = charts.sample_of(picks_at([(i, i) for i in range(4)], [0.1, 0.495, 0.6, 0.7]), 1.0, threshold)
    found = charts.histograms([sample], 1, threshold)
    assert found.left_picks[found.left_threshold.index(threshold)] == left == len(sample.diameter_A)


@given(st.lists(st.floats(0.125, 1024, width=32), max_size=50))
def test_a_histogram_counts_nearly_all(values: list[float]) -> None:
    found = charts._histogram(np.array(values, np.float32))
    assert len(found.edges) == len(found.counts) + 1
    assert sum(found.counts) >= 0.9 * len(values) - 2
    assert all(low < high for low, high in zip(found.edges, found.edges[1:], strict=False))


def test_a_sample_is_spread_over_the_run_and_read_once(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(601):
        told.picked(f"m{n}")
    detections = picks_at([(1, 1), (9, 9)], [0.9, 0.4])
    read: list[str] = []
    history = History(told.out)
    history.catch_up()
    monkeypatch.setattr(charts, "detections_of", lambda out, entry: read.append(entry.stem) or detections)
    sampler = charts.Sampler(history)
    found = sampler.histograms(history.entries, 0.5)
    assert (found.micrographs, found.of) == (151, 601)
    assert read[:3] == ["m0", "m4", "m8"]
    told.picked("m601")
    told.picked("m4", seconds=0.75)
    history.catch_up()
    read.clear()
    sampler.histograms(history.entries, 0.5)
    assert read == ["m4"]  # it was picked again
    read.clear()
    assert sampler.histograms(history.entries, 0.3).left_picks == found.left_picks
    assert len(read) == 151


def test_what_cannot_be_read_is_left_out(told: Any) -> None:
    for stem in "ab":
        told.picked(stem, picks_at([(1, 1)], [0.9]))
    history = History(told.out)
    history.catch_up()
    detections_path(told.out, PurePosixPath("a")).unlink()
    found = charts.Sampler(history).histograms(history.entries, 0.5)
    assert (found.micrographs, found.of) == (1, 2)
