"""The proof that a backend picks as the reference does: it passes what is alike, and finds out what
is not.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends.batching import split
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.backends.onnxruntime_cuda import OnnxRuntimeCuda
from gtpick_rt.backends.openvino import OpenVino
from gtpick_rt.backends.tensorrt import TensorRt
from gtpick_rt.errors import ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import (
    MAX_DRIFT_PX,
    MIN_AGREEMENT,
    SAMPLE,
    SAMPLE_DIAMETER_A,
    Parity,
    _in_batches,
    compare,
    parity_of,
    rows_alike,
)
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray

Answers = tuple[FloatArray, FloatArray]
Script = Callable[[FloatArray], Answers]
ALIKE = Parity(
    1, 0.01, reference_picks=1000, picks=1000, matched=1000, drift_px=0.2, usual_drift_px=0.04, rows_alike=True
)
FAR = 0.2525


@pytest.fixture
def sharp(spec: ModelSpec) -> ModelSpec:
    """With high clipping, which leaves dots their tops."""
    return replace(spec, clip=1000)


@pytest.fixture
def sample(tmp_path: Path, dots: Callable[..., object], save_mrc: Callable[..., Path]) -> Path:
    """A micrograph, not square, with 24 dots."""
    x, y = np.meshgrid(np.arange(6) * 180 + 107, np.arange(4) * 230 + 111)
    micrograph = dots(np.stack([x.ravel(), y.ravel()], axis=1), (1000, 1200))
    return save_mrc(tmp_path / "sample.mrc", micrograph.data)  # type: ignore[attr-defined]


@pytest.fixture
def judge(sharp: ModelSpec, sample: Path, find_dots: Script) -> Callable[[Callable[[Answers], Answers]], Parity]:
    """A function that compares what finds the dots with that changed, batch by batch."""

    def compared(change: Callable[[Answers], Answers]) -> Parity:
        reference = ScriptedBackend(find_dots)
        candidate = ScriptedBackend(lambda tiles: change(find_dots(tiles)))
        return compare(reference, candidate, sharp, sample, diameter_A=24)

    return compared


Judge = Callable[[Callable[[Answers], Answers]], Parity]


def test_a_backend_agrees_with_itself_in_all_views_of_the_sample(judge: Judge) -> None:
    parity = judge(lambda answers: answers)
    assert parity == Parity(72, 0.0, 8 * 24, 8 * 24, 8 * 24, drift_px=0.0, usual_drift_px=0.0, rows_alike=True)
    assert parity.holds


def test_the_order_of_queries_does_not_matter(judge: Judge) -> None:
    rng = np.random.default_rng(0)

    def shuffled(answers: Answers) -> Answers:
        scores, boxes = answers
        orders = [rng.permutation(scores.shape[1]) for _ in scores]
        return (
            np.stack([row[order] for row, order in zip(scores, orders, strict=True)]),
            np.stack([row[order] for row, order in zip(boxes, orders, strict=True)]),
        )

    assert judge(shuffled).holds


@pytest.mark.parametrize(("shift_px", "holds"), [(0.04, True), (0.06, False), (0.26, False)])
def test_centres_may_not_drift(shift_px: float, holds: bool, judge: Judge) -> None:
    parity = judge(lambda answers: (answers[0], answers[1] + np.float32([shift_px, 0, 0])))
    assert parity.drift_px == pytest.approx(shift_px, abs=1e-3)
    assert parity.agreement == 1
    assert parity.holds == holds


@pytest.mark.parametrize(
    ("moved", "usual_px", "holds", "holds_in_bfloat16"),
    [(0, 0, True, True), (1, 0, False, True), (4, 0, False, True), (5, FAR, False, False)],
)
def test_no_pick_may_drift_and_in_bfloat16_no_more_than_may_be_missed(
    moved: int, usual_px: float, holds: bool, holds_in_bfloat16: bool
) -> None:
    """Of 1000 picks some drift too far."""
    wanted = np.stack(np.meshgrid(np.arange(40), np.arange(25)), axis=-1).reshape(-1, 2).astype(np.float32) * 24
    got = wanted.copy()
    got[:moved, 1] += FAR
    scores = np.ones((1, 1), np.float32)
    parity = parity_of(scores, scores, [(wanted, got[::-1])], alike=True)
    assert parity.agreement == 1
    assert parity.drift_px == pytest.approx(FAR if moved else 0, abs=1e-3)
    assert parity.usual_drift_px == pytest.approx(usual_px, abs=1e-3)
    assert parity.holds == holds
    assert replace(parity, in_bfloat16=True).holds == holds_in_bfloat16


@pytest.mark.parametrize(
    ("name", "bfloat16"),
    [
        (OnnxRuntimeCpu.name, False),
        (OnnxRuntimeCuda.name, False),
        (TensorRt("tensorrt").name, False),
        (TensorRt("tensorrt-rtx").name, False),
        (OpenVino.name, True),
    ],
)
def test_openvino_alone_is_judged_as_one_in_bfloat16(
    name: str, bfloat16: bool, sharp: ModelSpec, sample: Path, find_dots: Script
) -> None:
    reference, candidate = ScriptedBackend(find_dots), ScriptedBackend(find_dots, name)
    assert compare(reference, candidate, sharp, sample, diameter_A=24).in_bfloat16 == bfloat16


@pytest.mark.parametrize("wrong", [1, 8, 16, 32])
def test_a_fault_of_one_batch_size_is_found_out(wrong: int, judge: Judge) -> None:
    def faulty(answers: Answers) -> Answers:
        scores, boxes = answers
        return (np.zeros_like(scores), boxes) if len(scores) == wrong else answers

    parity = judge(faulty)
    assert parity.agreement < 1
    assert not parity.holds


def test_the_report_tells_which_limit_tile_and_pick(judge: Judge) -> None:
    count = 0

    def faulty(answers: Answers) -> Answers:
        """Of the second batch of two, no particle is found; that of eight moves them."""
        nonlocal count
        count += 1
        scores, boxes = answers[0].copy(), answers[1].copy()
        scores[:] *= count != 2
        boxes[..., 0] += 0.4 * (count == 4)
        return scores, boxes

    parity = judge(faulty)
    report = json.loads(json.dumps(parity.report()))
    assert Parity(**{key: value for key, value in report.items() if key in asdict(parity)}) == parity
    assert report["not_kept"] == ["drift_px <= 0.25", "usual_drift_px <= 0.05", "agreement >= 0.995"]
    assert [n for n, error in enumerate(report["score_errors"]) if error > 0] == [1, 2]
    (missed,) = {(each["view"], each["got"] is None) for each in report["unlike"] if each["got"] is None}
    assert missed == (0, True)
    moved = [each for each in report["unlike"] if each["wanted"] and each["got"]]
    assert moved
    for each in moved:
        np.testing.assert_allclose(np.subtract(each["got"], each["wanted"]), [0.4, 0], atol=0.01)


def test_picks_that_are_missed_new_or_moved_are_told_by_view() -> None:
    wanted, scores = np.float32([[10, 20], [40, 50]]), np.ones((2, 1), np.float32)
    centres = [(wanted, wanted), (wanted, np.float32([[10, 20.5], [90, 90]]))]
    assert parity_of(scores, scores, centres, alike=True).unlike == [
        {"view": 1, "wanted": [10, 20], "got": [10, 20.5]},
        {"view": 1, "wanted": [40, 50], "got": None},
        {"view": 1, "wanted": None, "got": [90, 90]},
    ]
    many = np.float32([[0, 9 * n] for n in range(100)])
    assert len(parity_of(scores, scores, [(many, many[:0])], alike=True).unlike) == 50


def test_rows_of_a_batch_must_be_alike(judge: Judge) -> None:
    def by_row(answers: Answers) -> Answers:
        scores, boxes = answers[0], answers[1].copy()
        boxes[1::2] += np.float32([0.1, 0, 0])
        return scores, boxes

    parity = judge(by_row)
    assert parity.drift_px <= MAX_DRIFT_PX
    assert parity.agreement == 1
    assert not parity.rows_alike
    assert not parity.holds
    assert "identical rows of a batch answered differently" in str(parity)


@pytest.mark.parametrize("of", ["scores", "boxes"])
def test_numbers_that_are_none_are_found_out(of: str, judge: Judge) -> None:
    def spoilt(answers: Answers) -> Answers:
        scores, boxes = (array.copy() for array in answers)
        (scores if of == "scores" else boxes)[0, 0] = np.nan
        return scores, boxes

    assert not judge(spoilt).holds


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        (lambda scores, boxes: (scores, boxes), True),
        (lambda scores, boxes: (scores + 0.0009, boxes), True),
        (lambda scores, boxes: (scores - 0.002, boxes), False),
        (lambda scores, boxes: (scores, boxes + 0.03), True),
        (lambda scores, boxes: (scores, boxes + 0.04), False),
        (lambda scores, boxes: (np.where(np.arange(4) == 1, 0.5, scores), boxes), False),
        (lambda scores, boxes: (np.where(np.arange(4) == 3, 0, scores), boxes), False),
    ],
    ids=["same", "score near", "other score", "centre near", "other centre", "one more", "one less"],
)
def test_rows_are_alike_within_what_half_precision_may_do(
    change: Callable[..., Answers], alike: bool, spec: ModelSpec
) -> None:
    scores = np.float32([[0, 0, 0.9, 0.5]])
    boxes = np.float32([[[10 * i, 20, 24] for i in range(4)]])

    def script(tiles: FloatArray) -> Answers:
        first = np.repeat(scores, len(tiles), axis=0), np.repeat(boxes, len(tiles), axis=0)
        other = change(scores, boxes)
        first[0][-1], first[1][-1] = other[0][0], other[1][0]
        return first

    assert rows_alike(ScriptedBackend(script), spec, np.zeros((1, 256, 256), np.float32)) == alike


def test_a_reference_that_finds_nothing_proves_nothing(sharp: ModelSpec, sample: Path, find_dots: Script) -> None:
    blind = ScriptedBackend(lambda tiles: (find_dots(tiles)[0] * 0, find_dots(tiles)[1]))
    with pytest.raises(ModelError, match=r"test-model finds nothing on sample\.mrc"):
        compare(blind, blind, sharp, sample, diameter_A=24)


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"matched": round(1000 * MIN_AGREEMENT)}, True),
        ({"matched": round(1000 * MIN_AGREEMENT) - 1}, False),
        ({"picks": 1010}, False),
        ({"drift_px": FAR}, False),
        ({"usual_drift_px": 0.051}, False),
        ({"usual_drift_px": 0.051, "in_bfloat16": True}, True),
        ({"drift_px": FAR, "in_bfloat16": True}, True),
        ({"drift_px": FAR, "usual_drift_px": FAR, "in_bfloat16": True}, False),
        ({"matched": round(1000 * MIN_AGREEMENT) - 1, "in_bfloat16": True}, False),
        ({"rows_alike": False, "in_bfloat16": True}, False),
        ({"rows_alike": False}, False),
        ({"reference_picks": 0, "picks": 0, "matched": 0}, False),
        ({"reference_picks": 0, "matched": 0}, False),
        ({"picks": 0, "matched": 0}, False),
    ],
)
def test_parity_holds_when_picks_centres_and_rows_are_alike(changes: dict[str, float], holds: bool) -> None:
    assert replace(ALIKE, **changes).holds == holds  # type: ignore[arg-type]


def test_parity_says_in_one_line_how_far_apart_the_two_are() -> None:
    assert str(replace(ALIKE, tiles=128, max_score_error=0.0123, picks=1010)) == (
        "128 tiles: 1000 of 1010 picks agree; scores differ by at most 0.013, centres by at most 0.20 px (99.5% of "
        "them by at most 0.04 px)"
    )
    assert str(replace(ALIKE, tiles=64, max_score_error=6.3e-6, drift_px=3e-5, usual_drift_px=2e-5)) == (
        "64 tiles: 1000 of 1000 picks agree; scores differ by at most 0.001, centres by at most 0.01 px"
    )
    assert json.loads(json.dumps(asdict(ALIKE)))["matched"] == 1000


@pytest.mark.skipif(not SAMPLE.exists(), reason="no sample ships in gtpick_rt/models")
def test_the_sample_that_ships_is_at_the_working_scale() -> None:
    micrograph = read_micrograph(SAMPLE, keep_float16=True)
    assert micrograph.data.dtype == np.float16
    assert micrograph.data.shape == (768, 768)
    assert SAMPLE_DIAMETER_A / micrograph.pixel_size_A == pytest.approx(24, rel=0.1)


def test_batches_are_compared_up_and_down(spec: ModelSpec) -> None:
    """Graphs that are replayed wrongly once a larger one was captured after them: so did ONNX
    Runtime.
    """
    captured: list[int] = []

    def answer(tiles: FloatArray) -> Answers:
        scores = np.ones((len(tiles), 1), np.float32)
        for part, size in split(len(tiles), (1, 8, 32)):
            if size in captured:
                scores[part] = captured[-1] <= size
            else:
                captured.append(size)
        return scores, scores

    scores, _ = _in_batches(ScriptedBackend(answer), np.zeros((128, 1, 1, 1), np.float32))
    assert not scores.all()
    assert captured == [1, 8, 32]
