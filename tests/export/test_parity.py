"""Parity: an honest export passes, and a backend that answers otherwise is found out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_export.parity import MAX_SCORE_ERROR, MIN_AGREEMENT, Parity, compare
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.spec import ModelSpec
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


def scripted(spec: ModelSpec, scores: FloatArray, boxes: FloatArray) -> ScriptedBackend:
    backend = ScriptedBackend(spec, lambda tiles: (scores, boxes))
    backend.open(Path("unused"))
    return backend


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
    parity = compare(exported.network, scripted(spec, scores, boxes), spec, tiles)
    assert parity.max_score_error < 1e-4
    assert parity.agreement == 1


def test_other_scores_are_found_out(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    worse = scores.copy()
    worse[2, scores[2].argmax()] -= 0.2
    parity = compare(exported.network, scripted(spec, worse, boxes), spec, tiles)
    assert parity.max_score_error > 1e-3


def test_a_score_that_is_no_number_is_found_out_below_the_threshold_too(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    broken = scores.copy()
    broken[0, scores[0].argmin()] = np.nan
    parity = compare(exported.network, scripted(spec, broken, boxes), spec, tiles)
    assert parity.agreement == 1
    assert not parity.holds


@pytest.mark.parametrize("shift", [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
def test_moved_boxes_are_found_out(
    shift: list[float], exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    scores, boxes = answer
    parity = compare(exported.network, scripted(spec, scores, boxes + np.float32(100) * np.float32(shift)), spec, tiles)
    assert parity.agreement == 0
    nudged = compare(exported.network, scripted(spec, scores, boxes + np.float32(0.2) * np.float32(shift)), spec, tiles)
    assert nudged.agreement == 1


def test_missing_and_surplus_picks_lower_the_agreement() -> None:
    assert Parity(1, 0.0, reference_picks=4, picks=2, matched=2).agreement == 0.5
    assert Parity(1, 0.0, reference_picks=2, picks=4, matched=2).agreement == 0.5
    assert Parity(1, 0.0, reference_picks=0, picks=0, matched=0).agreement == 1
    assert Parity(1, 0.0, reference_picks=0, picks=1, matched=0).agreement == 0


@pytest.mark.parametrize(
    ("parity", "holds"),
    [
        (Parity(1, MAX_SCORE_ERROR, reference_picks=1000, picks=1000, matched=round(1000 * MIN_AGREEMENT)), True),
        (Parity(1, 1.01 * MAX_SCORE_ERROR, reference_picks=1000, picks=1000, matched=1000), False),
        (Parity(1, 0.0, reference_picks=1000, picks=1000, matched=round(1000 * MIN_AGREEMENT) - 1), False),
        (Parity(1, 0.0, reference_picks=0, picks=0, matched=0), True),
        (Parity(1, float("nan"), reference_picks=10, picks=10, matched=10), False),
    ],
    ids=["just alike", "other scores", "other picks", "no picks", "no scores"],
)
def test_parity_holds_when_both_scores_and_picks_are_alike(parity: Parity, holds: bool) -> None:
    assert parity.holds == holds


def test_parity_says_in_one_line_how_far_apart_the_two_are() -> None:
    text = str(Parity(16, 2.5e-6, reference_picks=4, picks=5, matched=4))
    assert text == "16 tiles: scores within 2.5e-06, 4 of 5 picks matched (80.00%)"


def test_no_picks_on_either_side_agree(
    exported: Any, spec: ModelSpec, tiles: FloatArray, answer: tuple[FloatArray, FloatArray]
) -> None:
    parity = compare(exported.network, scripted(spec, *answer), replace(spec, threshold=1.0), tiles)
    assert (parity.reference_picks, parity.picks) == (0, 0)
    assert parity.agreement == 1
