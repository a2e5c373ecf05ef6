import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from gtpick_rt.evaluate.calibration import calibration
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.evaluate.figures import count_hit, evaluate, evaluate_boxes, precision_recall
from gtpick_rt.evaluate.loading import Compared
from gtpick_rt.evaluate.matching import match, match_boxes
from gtpick_rt.evaluate.report import Lengths, report
from gtpick_rt.types import Picks

RADIUS = 3.0
# A coarse grid makes chains of candidates, and several labels within one radius, common.
points = st.integers(0, 5).flatmap(lambda n: arrays(np.float64, (n, 2), elements=st.integers(0, 12).map(float)))


def picks_at(xy: object, score: object = None) -> Picks:
    centres = np.array(xy, np.float32).reshape(-1, 2)
    n = len(centres)
    return Picks(
        centres, np.ones(n, np.float32), np.ones(n, np.float32) if score is None else np.array(score, np.float32)
    )


def distances(picks: NDArray[np.float64], labels: NDArray[np.float64], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.linalg.norm(picks[pairs[:, 0]] - labels[pairs[:, 1]], axis=1)


def best_by_trying_all(picks: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[int, float]:
    """Size and total distance of the best matching, found by looking at every one."""
    best = (0, 0.0)
    for k in range(1, min(len(picks), len(labels)) + 1):
        totals = [
            lengths.sum()
            for chosen in itertools.combinations(range(len(picks)), k)
            for partners in itertools.permutations(range(len(labels)), k)
            if (lengths := distances(picks, labels, np.column_stack([chosen, partners]))).max() <= RADIUS
        ]
        if totals:
            best = (k, min(totals))
    return best


@given(points, points)
def test_matching_is_one_to_one_within_the_radius_and_the_best_there_is(
    picks: NDArray[np.float64], labels: NDArray[np.float64]
) -> None:
    pairs = match(picks, labels, RADIUS)
    assert pairs.shape == (len(pairs), 2)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (np.diff(pairs[:, 0]) > 0).all()
    lengths = distances(picks, labels, pairs)
    assert (lengths <= RADIUS).all()
    assert (len(pairs), pytest.approx(lengths.sum())) == best_by_trying_all(picks, labels)


@given(points, points)
def test_exchanging_picks_and_labels_exchanges_precision_and_recall(
    picks: NDArray[np.float64], labels: NDArray[np.float64]
) -> None:
    one = evaluate([(picks_at(picks), picks_at(labels))], RADIUS)
    other = evaluate([(picks_at(labels), picks_at(picks))], RADIUS)
    assert (one.precision, one.recall, one.f1) == (other.recall, other.precision, other.f1)


def test_the_most_matches_come_before_the_least_distance() -> None:
    # The nearest pair alone, 1 to 0, would leave pick 0 and label 1 without a partner.
    pairs = match([[0, 0], [3, 0]], [[2.5, 0], [5.5, 0]], RADIUS)
    assert pairs.tolist() == [[0, 0], [1, 1]]


def test_the_radius_belongs_to_the_match() -> None:
    assert len(match([[0, 0]], [[3, 0]], 3)) == 1
    assert len(match([[0, 0]], [[3.001, 0]], 3)) == 0


def test_many_picks_are_matched_to_their_own_labels() -> None:
    random = np.random.default_rng(0)
    labels = random.uniform(0, 4000, (2000, 2))
    order = random.permutation(2000)
    pairs = match(labels[order] + 0.001, labels, 30)
    np.testing.assert_array_equal(order[pairs[:, 0]], pairs[:, 1])
    assert len(pairs) == 2000


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((6, 8, 12), (0.75, 0.5, 0.6)), ((0, 0, 5), (1, 0, 0)), ((0, 5, 0), (0, 1, 0)), ((0, 0, 0), (1, 1, 1))],
)
def test_precision_recall_and_f1(counts: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    assert precision_recall(*counts) == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    labels = picks_at([[0, 0], [100, 0], [200, 0], [300, 0]])
    picks = picks_at([[300, 1], [50, 0], [0, 1], [0, 2], [100, 1]], score=[0.9, 0.8, 0.7, 0.6, 0.5])
    # Hits at ranks 1, 3 and 5 (the second pick on label 0 finds it taken); one label of four is
    # never found.
    assert curve([(picks, labels)], RADIUS).average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 4)


def test_average_precision_ranks_all_micrographs_together_but_matches_within_each() -> None:
    one = (picks_at([[0, 0]], score=[0.4]), picks_at([[0, 0]]))
    other = (picks_at([[50, 0]], score=[0.8]), picks_at([[9, 9]]))
    assert curve([one, other], RADIUS).average_precision == pytest.approx((1 / 2) / 2)


def test_average_precision_without_labels_is_1_only_without_picks() -> None:
    assert curve([(Picks.empty(), Picks.empty())], RADIUS).average_precision == 1
    assert curve([(picks_at([[0, 0]]), Picks.empty())], RADIUS).average_precision == 0


def test_the_best_threshold_by_hand() -> None:
    labels = picks_at([[0, 0], [100, 0], [200, 0]])
    picks = picks_at([[0, 0], [100, 0], [50, 0], [200, 0], [350, 0]], score=[0.9, 0.75, 0.75, 0.5, 0.25])
    f1, threshold = curve([(picks, labels)], RADIUS).best()
    # At 0.9: 2/4; at 0.75, which takes both picks of this score: 4/6; at 0.5: 6/7; at 0.25: 6/8.
    assert (f1, threshold) == (pytest.approx(6 / 7), 0.5)
    assert curve([(picks[np.arange(3)], labels)], RADIUS).best() == (pytest.approx(4 / 6), 0.75)


def test_the_best_threshold_without_picks() -> None:
    assert curve([(Picks.empty(), picks_at([[0, 0]]))], RADIUS).best() == (0, 1)
    assert curve([(Picks.empty(), Picks.empty())], RADIUS).best() == (1, 1)


@given(points)
def test_labels_evaluated_against_themselves_are_perfect(labels: NDArray[np.float64]) -> None:
    figures = evaluate([(picks_at(labels), picks_at(labels))], RADIUS)
    assert (figures.precision, figures.recall, figures.f1, figures.mean_f1) == (1, 1, 1, 1)
    assert curve([(picks_at(labels), picks_at(labels))], RADIUS).average_precision == pytest.approx(1)
    assert figures.centre_error_px == (0 if len(labels) else None)


def test_figures_of_several_micrographs() -> None:
    perfect = (picks_at([[0, 0], [20, 0]]), picks_at([[0, 1], [20, 2]]))
    missed = (Picks.empty(), picks_at([[5, 5], [50, 50]]))
    empty = (Picks.empty(), Picks.empty())
    figures = evaluate([perfect, missed, empty], RADIUS)
    assert curve([perfect, missed, empty], RADIUS).average_precision == pytest.approx(0.5)
    assert (figures.micrographs, figures.picks, figures.labels, figures.matches) == (3, 2, 4, 2)
    assert (figures.precision, figures.recall) == (1, 0.5)
    assert figures.f1 == pytest.approx(2 / 3)
    assert figures.mean_f1 == pytest.approx((1 + 0 + 1) / 3)
    assert figures.centre_error_px == pytest.approx(1.5)


def test_no_micrographs_is_an_error() -> None:
    with pytest.raises(ValueError, match="no micrographs"):
        evaluate([], RADIUS)


@given(points, points)
def test_matching_by_boxes_pairs_only_boxes_that_overlap_enough_and_as_many_as_can_be(
    picks: NDArray[np.float64], labels: NDArray[np.float64]
) -> None:
    side = 7.0
    pairs = match_boxes(picks, labels, side)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    shared = np.clip(side - np.abs(picks[:, None] - labels[None]), 0, None).prod(2)
    overlaps = shared / (2 * side**2 - shared) >= 0.5
    assert overlaps[pairs[:, 0], pairs[:, 1]].all()
    assert len(pairs) == np.count_nonzero(maximum_bipartite_matching(csr_array(overlaps)) >= 0)
    assert len(pairs) <= len(match(picks, labels, side / 3))


def test_boxes_match_when_shifted_by_a_third_along_a_side_but_not_along_both() -> None:
    assert match_boxes([[0, 0]], [[1, 0]], 3).tolist() == [[0, 0]]
    assert len(match_boxes([[0, 0]], [[1.01, 0]], 3)) == 0
    assert len(match_boxes([[0, 0]], [[0.7, 0.7]], 3)) == 0  # an IoU of 0.42, though 0.99 apart
    assert match_boxes([[0, 0], [0.5, 0]], [[0.5, 0]], 3).tolist() == [[1, 0]]


def test_figures_by_boxes_pool_the_micrographs() -> None:
    found = evaluate_boxes([(picks_at([[0, 0], [9, 9]]), picks_at([[0, 1]])), (Picks.empty(), picks_at([[5, 5]]))], 3)
    assert (found.picks, found.labels, found.matches, found.precision, found.recall, found.f1) == (
        2,
        2,
        1,
        0.5,
        0.5,
        0.5,
    )


def test_duplicates_are_further_picks_on_a_label_that_is_taken() -> None:
    labels = picks_at([[0, 0], [100, 0]])
    picks = picks_at([[0, 0], [1, 0], [0, 2], [50, 0], [100, 0]])
    assert evaluate([(picks, labels)], RADIUS).duplicates == 2


@given(points, points)
def test_duplicates_and_matches_are_all_the_picks_near_labels(
    picks: NDArray[np.float64], labels: NDArray[np.float64]
) -> None:
    found = evaluate([(picks_at(picks), picks_at(labels))], RADIUS)
    near = (np.linalg.norm(picks[:, None] - labels[None], axis=2) <= RADIUS).any(1).sum()
    assert found.matches + found.duplicates == near


def test_places_that_have_a_pick_within_the_radius_are_counted_once_each() -> None:
    assert count_hit(picks_at([[0, 0], [1, 0], [50, 0]]), picks_at([[0, 3], [0, 4], [50, 0]]), RADIUS) == 2
    assert count_hit(Picks.empty(), picks_at([[0, 0]]), RADIUS) == 0
    assert count_hit(picks_at([[0, 0]]), Picks.empty(), RADIUS) == 0


def test_calibration_by_hand() -> None:
    labels = picks_at([[0, 0], [100, 0], [200, 0]])
    picks = picks_at([[0, 0], [100, 0], [50, 0], [200, 0], [350, 0]], score=[1, 0.875, 0.8125, 0.25, 0.125])
    table = calibration(curve([(picks, labels)], RADIUS))
    assert table is not None
    assert [(b.low, b.high, b.picks, b.mean_score, b.share_right) for b in table.bins if b.picks] == [
        (0.1, 0.2, 1, 0.125, 0),
        (0.2, 0.3, 1, 0.25, 1),
        (0.8, 0.9, 2, 0.84375, 0.5),
        (0.9, 1.0, 1, 1, 1),
    ]
    assert len(table.bins) == 10
    assert all(b.mean_score is None and b.share_right is None for b in table.bins if not b.picks)
    assert table.expected_error == pytest.approx((0.125 + 0.75 + 2 * 0.34375 + 0) / 5)


def test_scores_that_mean_what_they_say_have_a_small_calibration_error_and_others_not() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(0, 1, 4000)
    centres = np.column_stack([np.arange(4000) * 10, np.zeros(4000)])
    labels = picks_at(centres[random.uniform(0, 1, 4000) < score])
    errors = [calibration(curve([(picks_at(centres, s), labels)], RADIUS)) for s in (score, score**3)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0].expected_error < 0.03
    assert errors[1].expected_error > 0.2


def test_calibration_needs_picks() -> None:
    assert calibration(curve([(Picks.empty(), picks_at([[0, 0]]))], RADIUS)) is None


def compared(name: str, picks: Picks, labels: Picks, **more: Picks) -> Compared:
    return Compared(name=name, picks=picks, labels=labels, **{"detections": picks, **more})


def test_a_report_takes_picks_for_its_figures_and_all_detections_for_curve_and_calibration() -> None:
    detections = picks_at([[0, 0], [50, 0], [100, 2]], score=[0.9, 0.6, 0.3])
    labels = picks_at([[0, 0], [100, 0]])
    one = compared("a", detections[np.arange(2)], labels, detections=detections, negatives=picks_at([[51, 0], [9, 9]]))
    empty = compared("b", Picks.empty(), Picks.empty())
    found = report([one, empty], Lengths(diameter_px=9, radius_px=3, pixel_size_A=2))
    record = found.record()
    assert (record["matches"], record["precision"], record["recall"]) == (1, 0.5, 0.5)
    assert record["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (record["best_f1"], record["best_threshold"]) == (pytest.approx(0.8), pytest.approx(0.3))
    assert record["lowest_score"] == pytest.approx(0.6)
    assert sum(b["picks"] for b in record["calibration"]["bins"]) == 3
    assert (record["negatives"], record["negatives_hit"]) == (2, 1)
    assert [(m["micrograph"], m["f1"], m["f1_iou"]) for m in record["per_micrograph"]] == [("a", 0.5, 0.5), ("b", 1, 1)]


def test_a_report_has_centre_errors_in_both_units_or_in_pixels_only() -> None:
    pairs = [compared("a", picks_at([[0, 2]]), picks_at([[0, 0]]))]
    for pixel_size_A, error_A in ((1.5, 3), (None, None)):
        record = report(pairs, Lengths(diameter_px=9, radius_px=3, pixel_size_A=pixel_size_A)).record()
        assert (record["centre_error_px"], record["centre_error_A"]) == (2, error_A)
        assert record["per_micrograph"][0]["centre_error_A"] == error_A


def test_a_report_on_picks_without_scores_has_neither_curve_nor_calibration() -> None:
    record = report(
        [compared("a", picks_at([[0, 2]]), picks_at([[0, 0]]))], Lengths(diameter_px=9, radius_px=3)
    ).record()
    keys = ("average_precision", "calibration", "best_f1", "best_threshold", "lowest_score")
    assert [record[key] for key in keys] == [None] * 5
    assert (record["f1"], record["negatives"], record["negatives_hit"]) == (1, None, None)


def test_precision_at_a_recall_is_that_of_the_best_picks_that_reach_it() -> None:
    drawn = Curve(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]), labels=4)
    assert drawn.precision_at(0.25) == 1
    assert drawn.precision_at(0.5) == pytest.approx(2 / 3)
    assert drawn.precision_at(0.6) is None
