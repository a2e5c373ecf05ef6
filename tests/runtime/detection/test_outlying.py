"""Areas that are no ice do not disturb their surroundings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.detection.outlying import outlying_areas
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import Micrograph

NOISE = np.random.default_rng(0).normal(1000, 50, (700, 900)).astype(np.float32)
STOP = (slice(0, 420), slice(400, 500))
BESIDE = (slice(50, 350), slice(510, 560))


def prepared(pixels: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """At one micrograph pixel per working pixel."""
    return to_working_scale(Micrograph(pixels, 1.0, Path("a.mrc")), spec.diameter_px, spec).data


@pytest.mark.parametrize("value", [0, 60_000, 1e9, -1e12])
def test_what_lies_beside_a_beam_stop_or_a_block_looks_as_without_it(value: float, spec: ModelSpec) -> None:
    pixels = NOISE.copy()
    pixels[STOP] = value
    before, after = prepared(NOISE, spec), prepared(pixels, spec)
    assert np.abs(after[BESIDE] - before[BESIDE]).mean() < 0.15
    assert np.abs(after[10:400, 403:440]).std() > 0.3  # noise goes on there as in a mirror


@pytest.mark.parametrize("value", [0, 5000])
def test_what_lies_within_a_margin_looks_as_without_it(value: float, spec: ModelSpec) -> None:
    pixels = np.full_like(NOISE, value)
    pixels[60:-60, 60:-60] = NOISE[60:-60, 60:-60]
    inside = (slice(75, -75), slice(75, -75))
    assert np.abs(prepared(pixels, spec)[inside] - prepared(NOISE, spec)[inside]).mean() < 0.15


def test_ordinary_images_have_none(spec: ModelSpec) -> None:
    ramp = NOISE + np.linspace(0, 2000, 900, dtype=np.float32)
    for pixels in (NOISE, -NOISE, ramp, np.zeros_like(NOISE)):
        assert outlying_areas(pixels, spec.diameter_px) is None


def test_what_stands_out_but_is_not_flat_is_no_area(spec: ModelSpec) -> None:
    y, x = np.indices(NOISE.shape)
    waves = NOISE * np.float32(0.02) + 400 * (np.sin(x / 5) * np.sin(y / 5) > 0.2)
    assert outlying_areas(waves.astype(np.float32), spec.diameter_px) is None
    spot = NOISE.copy()
    spot[100:110, 100:110] = 9000
    assert outlying_areas(spot, spec.diameter_px) is None
    assert prepared(spot, replace(spec, clip=6))[104, 104] == 6


def test_a_small_block_of_huge_values_counts_for_nothing(spec: ModelSpec) -> None:
    pixels = NOISE.copy()
    pixels[100:112, 100:112] = 1e15
    beside = (slice(60, 95), slice(60, 150))
    assert np.abs(prepared(pixels, spec)[beside] - prepared(NOISE, spec)[beside]).mean() < 0.15


def test_beside_an_area_all_is_found_and_in_it_nothing(
    spec: ModelSpec, dot_picker: Picker, dots: Callable[..., Micrograph]
) -> None:
    places = np.array([[60, 60], [60, 300], [200, 180], [340, 60], [340, 300]], np.float32)
    micrograph = dots(places, (360, 400))
    micrograph.data[:150, 110:290] = 0
    found = dot_picker.pick(micrograph)
    assert sorted(found.xy_px.round(-1).tolist()) == sorted(places.tolist())
    micrograph.data[:150, :290] = 0
    assert [60, 60] not in dot_picker.pick(micrograph).xy_px.round(-1).tolist()
