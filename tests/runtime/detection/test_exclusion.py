"""Where not to pick: at borders, under masks, on film and in ice, and on flagged micrographs."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gtpick_rt.detection.contamination import find_contamination
from gtpick_rt.detection.exclusion import Exclusion, Kept, keep, margins_px, parse_flags, parse_margin, smeared_px
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.errors import UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks

SHAPE = (480, 720)
"""20 x 30 particles of 24 px, which is the model's own scale."""
EVERYWHERE = Exclusion(margin="0 Å")


def noise(seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(100, 5, SHAPE).astype(np.float32)


def at(*xy: tuple[float, float]) -> Picks:
    n = len(xy)
    return Picks(np.array(xy, np.float32).reshape(n, 2), np.full(n, 24, np.float32), np.full(n, 0.9, np.float32))


def kept(spec: ModelSpec, image: FloatArray, found: Picks, exclusion: Exclusion, allowed: object = None) -> Kept:
    working = to_working_scale(Micrograph(image, 2.0, Path("a.mrc")), 48, spec)
    return keep(
        found,
        working,
        spec,
        exclusion,
        margins=margins_px(exclusion.margin, working, 2.0),
        contamination=find_contamination(working, spec),
        allowed=allowed,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "margin"),
    [("auto", "auto"), ("120", "120 Å"), ("120A", "120 Å"), ("12.5 Å", "12.5 Å"), ("40px", "40 px"), ("0", "0 Å")],
)
def test_a_margin_is_in_angstroms_or_pixels(text: str, margin: str) -> None:
    assert parse_margin(text) == margin
    assert parse_margin(margin) == margin


@pytest.mark.parametrize("text", ["", "wide", "-3", "3 nm", "px", "nan"])
def test_a_margin_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither a width"):
        parse_margin(text)


def test_flags_are_named_by_their_first_word_too() -> None:
    assert parse_flags(["ice", " carbon", "low-contrast", "carbon edge"]) == "carbon edge, ice, low contrast"
    assert parse_flags([""]) == ""
    with pytest.raises(UsageError, match="dirt: is no flag; empty, crowded"):
        parse_flags(["ice", "dirt"])


@pytest.mark.parametrize("margin", ["80 Å", "40 px"])
def test_no_particle_reaches_into_a_margin(margin: str, spec: ModelSpec) -> None:
    found = at((51.4, 200), (51.6, 200), (300, 427.6), (300, 427.4))  # 40 px, and half of 24 px
    left = kept(spec, noise(), found, Exclusion(margin=margin))
    assert left.detections.xy_px.tolist() == found.xy_px[[1, 3]].tolist()
    assert left.left_out == 2


def test_smeared_and_constant_borders_are_found_and_no_others(spec: ModelSpec) -> None:
    image = noise()
    assert smeared_px(image) == (0, 0, 0, 0)
    image[:20] = image[20]  # what a shifted frame leaves
    image[:, -9:] = 100
    image[200:230] = image[200]  # not at a border
    top, bottom, left, right = smeared_px(image)
    assert (bottom, left) == (0, 0)
    assert abs(top - 20) <= 1
    assert abs(right - 9) <= 1
    found = at((300, 30), (300, 34), (300, 460), (14, 200), (695, 200), (700, 200))
    assert kept(spec, image, found, Exclusion()).left_out == 2
    assert kept(spec, image, found, EVERYWHERE).left_out == 0


def test_a_border_is_judged_beside_the_rest_of_the_image() -> None:
    """Drift makes all neighbouring lines alike."""
    assert smeared_px(gaussian_filter(noise(), (4, 0), mode="wrap")) == (0, 0, 0, 0)
    assert smeared_px(np.zeros(SHAPE, np.float32)) == (0, 0, 0, 0)


def test_centres_lie_where_a_mask_allows(spec: ModelSpec) -> None:
    allowed = np.ones(SHAPE, bool)
    allowed[:, :100] = False
    left = kept(spec, noise(), at((99, 50), (101, 50)), EVERYWHERE, allowed)
    assert left.detections.xy_px.tolist() == [[101, 50]]


def test_nothing_is_picked_on_film_nor_in_ice(spec: ModelSpec) -> None:
    """Film on the left, a lump of ice of two particles' diameter on the right."""
    rows, columns = np.indices(SHAPE)
    image = noise() - 100 * (columns < 240)
    lump = np.hypot(columns - 600, rows - 240) < 24
    image = (image - 60 * lump).astype(np.float32)
    found = at((100, 100), (20, 460), (600, 240), (420, 100), (540, 400))
    avoiding = Exclusion(margin="0 Å", avoid_contamination=True)
    assert kept(spec, image, found, avoiding).detections.xy_px.tolist() == found.xy_px[[3, 4]].tolist()
    assert kept(spec, image, found, EVERYWHERE).left_out == 0
    assert kept(spec, noise(), found, avoiding).left_out == 0


def test_a_flagged_micrograph_gets_no_picks_if_that_is_asked_for(spec: ModelSpec) -> None:
    image = (noise() - 100 * (np.indices(SHAPE)[1] < 240)).astype(np.float32)
    xy = np.random.default_rng(0).uniform(250, 470, (100, 2)).tolist()
    found = at(*xy)
    left = kept(spec, image, found, Exclusion(margin="0 Å", skip_flagged="empty, carbon edge"))
    assert (len(left.detections), left.left_out, left.skipped) == (0, 100, ["carbon edge"])
    other = kept(spec, image, found, Exclusion(margin="0 Å", skip_flagged="empty, crowded"))
    assert (len(other.detections), other.left_out, other.skipped) == (100, 0, [])
    assert "carbon edge" in other.flags
