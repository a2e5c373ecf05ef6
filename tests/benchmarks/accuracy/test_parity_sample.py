"""On the sample that ships rounding decides nothing, and what it could decide is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from benchmarks.accuracy import parity_sample
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.models.files import SAMPLE, shipped_models
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

LEAD, CLEARANCE = 0.25, 0.15
"""Of the sample that ships, in logits; it was made with more, for another processor adds up in
another order."""


@pytest.mark.skipif(not (SAMPLE.exists() and shipped_models()), reason="the sample or the model do not ship here")
def test_on_the_sample_that_ships_no_pick_has_a_near_rival_and_no_score_is_near_the_threshold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parity_sample, "MERGE_CHANGE", 0.01)
    picker = open_picker(SAMPLE_DIAMETER_A, backend="cpu")
    for view in parity_sample.views(read_micrograph(SAMPLE)):
        image = picker.prepare(view)
        raw = picker.infer(image)
        assert len(parity_sample.undecided(picker, image, raw, LEAD, CLEARANCE)) == 0


Detection = tuple[float, float, float]
"""x and y, and how far the score is above the threshold, in logits."""


@pytest.fixture
def found(spec: ModelSpec) -> Callable[[list[Detection]], list[list[float]]]:
    """A function that says what is undecided when a tile of 256 px, which is all there is, has
    these detections."""
    spec = replace(spec, threshold=0.5, calibration=(1.0, 0.0))

    def of(detections: list[Detection]) -> list[list[float]]:
        def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
            scores = np.float32([[expit(level) for _, _, level in detections]])
            boxes = np.float32([[(x, y, 24) for x, y, _ in detections]])
            return scores, boxes

        picker = Picker(ScriptedBackend(script), replace(spec, queries=len(detections)), diameter_A=24)
        pixels = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
        image = picker.prepare(Micrograph(pixels, 1.0, Path("noise.mrc")))
        centres = parity_sample.undecided(picker, image, picker.infer(image))
        return np.unique(centres.astype(float).round(2), axis=0).tolist()

    return of


@pytest.mark.parametrize(
    ("rival", "undecided"),
    [
        ((101, 80, 2.8), True),
        ((101, 80, 2.6), False),
        ((100.1, 80, 2.9), False),
        ((111, 80, 2.8), True),
        ((113, 80, 2.8), False),
    ],
    ids=["near tie", "clear lead", "same place", "merged", "another particle"],
)
def test_a_rival_with_almost_the_same_score_leaves_a_pick_undecided(
    rival: Detection, undecided: bool, found: Callable[[list[Detection]], list[list[float]]]
) -> None:
    assert found([(100, 80, 3), rival]) == ([[100, 80]] if undecided else [])


@pytest.mark.parametrize(("level", "undecided"), [(0.25, False), (0.1, True), (-0.1, True), (-0.25, False)])
def test_a_score_at_the_threshold_is_undecided(
    level: float, undecided: bool, found: Callable[[list[Detection]], list[list[float]]]
) -> None:
    assert found([(100, 80, level)]) == ([[100, 80]] if undecided else [])


def test_a_neighbour_that_is_almost_merged_is_undecided(
    found: Callable[[list[Detection]], list[list[float]]],
) -> None:
    assert found([(100, 80, 3), (112.1, 80, 2)]) == [[112.1, 80]]
    assert found([(100, 80, 3), (111.9, 80, 2)]) == [[111.9, 80]]


def test_noise_is_laid_where_a_view_shows_something_undecided(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright pixel, off the middle, stands for it."""

    def brightest(picker: Picker, image: object, raw: FloatArray) -> FloatArray:
        y, x = np.unravel_index(raw.argmax(), raw.shape)
        return np.float32([[x, y]])

    monkeypatch.setattr(parity_sample, "undecided", brightest)
    monkeypatch.setattr(Picker, "infer", lambda self, image: image.data)
    picker = Picker(ScriptedBackend(lambda tiles: (tiles, tiles)), spec, diameter_A=24)
    pixels = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    pixels[110, 70] = 20
    micrograph = Micrograph(pixels.astype(np.float16).astype(np.float32), 1.0, Path("one.mrc"))
    marked = parity_sample.undecided_pixels(micrograph, picker)
    assert np.argwhere(marked).tolist() == [[110, 70]]
    noisy = parity_sample.with_noise(micrograph, marked, np.random.default_rng(0))
    y, x = np.nonzero(noisy.data != micrograph.data)
    distance = np.hypot(x - 70, y - 110)
    assert len(distance) > 100
    assert distance.max() < 6 * parity_sample.SPOT_PX
