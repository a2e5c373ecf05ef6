"""Parity: an honest export passes, and a backend that answers otherwise is found out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gtpick_export.parity import MAX_SCORE_ERROR, MIN_AGREEMENT_8_BITS, answers_alike, compare
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import MAX_DRIFT_PX, MIN_AGREEMENT, Parity
from gtpick_rt.types import FloatArray


@pytest.fixture(scope="module")
def backend(exported: Any) -> OnnxRuntimeCpu:
    backend = OnnxRuntimeCpu()
    backend.open(exported.path)
    return backend


@pytest.fixture(scope="module")
def spec(exported: Any) -> ModelSpec:
    return OnnxRuntimeCpu().open(exported.path)


@pytest.fixture(scope="module")
def answer(backend: OnnxRuntimeCpu, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    return backend.infer(tiles)


def scripted(scores: FloatArray, boxes: FloatArray) -> ScriptedBackend:
    """Answers the tiles with these; a tile that is repeated, always with those of the first."""

    def answer(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        first = np.zeros(len(tiles), int)
        return (scores, boxes) if len(tiles) == len(scores) else (scores[first], boxes[first])

    return ScriptedBackend(answer)


def test_the_exported_model_agrees_with_the_network(
    exported: Any, backend: OnnxRuntimeCpu, spec: ModelSpec, tiles: FloatArray
) -> None:
    parity = compare(exported.network, backend, spec, tiles)
    assert parity.tiles == 3
    assert 5 < parity.reference_picks < 3 * spec.queries
    assert parity.max_score_error < 1e-4
    assert parity.agreement == 1


def test_the_order_of_queries_does_not_matter(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = (np.ascontiguousarray(x[:, ::-1]) for x in answer)
    parity = compare(exported.network, scripted(scores, boxes), spec, tiles)
    assert parity.max_score_error < 1e-4
    assert parity.agreement == 1


def test_other_scores_are_found_out(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    worse = scores.copy()
    worse[2, scores[2].argmax()] -= 0.2
    parity = compare(exported.network, scripted(worse, boxes), spec, tiles)
    assert parity.max_score_error > 1e-3


def test_a_score_that_is_no_number_is_found_out_below_the_threshold_too(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    broken = scores.copy()
    broken[0, scores[0].argmin()] = np.nan
    parity = compare(exported.network, scripted(broken, boxes), spec, tiles)
    assert parity.agreement == 1
    assert not parity.holds


@pytest.mark.parametrize("shift", [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
def test_moved_boxes_are_found_out(
    shift: list[float], exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    parity = compare(exported.network, scripted(scores, boxes + np.float32(100) * np.float32(shift)), spec, tiles)
    assert parity.agreement == 0
    nudged = compare(exported.network, scripted(scores, boxes + np.float32(0.2) * np.float32(shift)), spec, tiles)
    assert nudged.agreement == 1


def test_the_drift_of_centres_is_told(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    parity = compare(exported.network, scripted(scores, boxes + np.float32([0.3, 0.4, 0])), spec, tiles)
    assert parity.drift_px == pytest.approx(0.5, abs=0.01)
    assert parity.usual_drift_px == pytest.approx(0.5, abs=0.01)


def test_the_threshold_is_one_of_calibrated_scores(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    calibrated = replace(spec, calibration=(1.0, 2.0))
    parity = compare(exported.network, scripted(*answer), calibrated, tiles)
    assert parity.picks == (calibrate(answer[0], calibrated) >= spec.threshold).sum() > (answer[0] >= 0.5).sum()


ALIKE = Parity(
    tiles=1,
    max_score_error=0.0,
    reference_picks=1000,
    picks=1000,
    matched=1000,
    drift_px=0.0,
    usual_drift_px=0.0,
    rows_alike=True,
)


@pytest.mark.parametrize(
    ("change", "precisions"),
    [
        ({}, "fp32 fp16 int8 fp8"),
        ({"max_score_error": MAX_SCORE_ERROR}, "fp32 fp16 int8 fp8"),
        ({"max_score_error": 1.01 * MAX_SCORE_ERROR}, "fp16 int8 fp8"),
        ({"max_score_error": float("nan")}, "fp16 int8 fp8"),
        ({"matched": round(1000 * MIN_AGREEMENT)}, "fp32 fp16 int8 fp8"),
        ({"matched": round(1000 * MIN_AGREEMENT) - 1}, "int8 fp8"),
        ({"matched": round(1000 * MIN_AGREEMENT_8_BITS) - 1}, ""),
        ({"drift_px": 1.01 * MAX_DRIFT_PX}, "int8 fp8"),
        ({"rows_alike": False}, "int8 fp8"),
    ],
    ids=str,
)
def test_each_precision_has_its_own_limits(change: dict[str, Any], precisions: str) -> None:
    found = [name for name in ("fp32", "fp16", "int8", "fp8") if answers_alike(replace(ALIKE, **change), name)]
    assert found == precisions.split()


def test_no_picks_on_either_side_prove_nothing(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    parity = compare(exported.network, scripted(*answer), replace(spec, threshold=1.0), tiles)
    assert (parity.reference_picks, parity.picks) == (0, 0)
    assert not any(answers_alike(parity, precision) for precision in ("fp32", "fp16", "int8", "fp8"))
    assert "neither picks anything, which proves nothing" in str(parity)
    assert "100" not in str(parity)
