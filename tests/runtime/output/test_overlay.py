"""The picture shows the picks where they are."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.output.overlay import MAX_SIDE_PX, Lengths, bar_length_nm, draw_overlay
from gtpick_rt.types import FloatArray, Picks

COARSE = np.zeros((1, 1), np.float32)
"""No picture shows it."""
CAPTION_PX = 25
"""At the top, with a legend in the colours of the circles."""


def pixels(png: bytes) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def noise(h: int, w: int) -> FloatArray:
    return np.random.default_rng(3).normal(size=(h, w)).astype(np.float32)


def test_a_circle_of_the_nominal_diameter_surrounds_a_pick() -> None:
    """The micrograph is shown at half its size, whatever the size of the working image."""
    image = WorkingImage(noise(100, 150), (1365, 2048), COARSE)
    pick = Picks(np.array([[420, 160]], np.float32), np.array([10], np.float32), np.array([1.0], np.float32))
    picture = pixels(draw_overlay(image, pick, Lengths(80, 1)))
    assert picture.shape == (682, 1024, 3)
    y, x = np.nonzero((picture[CAPTION_PX:] == [213, 94, 0]).all(axis=2))
    y += CAPTION_PX
    radius = np.hypot(x - 209.75, y - 79.75)
    assert len(radius) > 60
    assert np.abs(radius - 20).max() < 3


def test_the_score_sets_the_colour() -> None:
    image = WorkingImage(noise(100, 300), (100, 300), COARSE)
    xy = np.array([[80, 60], [150, 60], [220, 60]], np.float32)
    picks = Picks(xy, np.full(3, 24, np.float32), np.array([0, 0.6, 1], np.float32))
    picture = pixels(draw_overlay(image, picks, Lengths(24, 1)))
    for rgb, x in (([86, 180, 233], 80), ([240, 228, 66], 150), ([213, 94, 0], 220)):
        assert abs((picture[CAPTION_PX:] == rgb).all(axis=2).nonzero()[1].mean() - x) < 1


def test_the_picture_is_reduced_and_zero_picks_can_be_drawn() -> None:
    picture = pixels(draw_overlay(WorkingImage(noise(700, 2100), (700, 2100), COARSE), Picks.empty(), Lengths(24, 1)))
    assert picture.shape[1] == MAX_SIDE_PX
    assert (picture[CAPTION_PX:] == picture[CAPTION_PX:, :, :1]).all()


def test_a_blank_image_can_be_drawn() -> None:
    blank = WorkingImage(np.zeros((100, 100), np.float32), (100, 100), COARSE, blank=True)
    assert pixels(draw_overlay(blank, Picks.empty(), Lengths(24, 1))).shape == (100, 100, 3)


def test_the_caption_has_the_colours_of_the_scores_and_the_bar_a_round_length() -> None:
    """1024 px of 2 Å, each two of the micrograph, are 205 nm wide: the bar is 50 nm, 250 px."""
    image = WorkingImage(noise(100, 100), (2048, 2048), COARSE)
    picture = pixels(draw_overlay(image, Picks.empty(), Lengths(200, 1)))
    for rgb in ([86, 180, 233], [240, 228, 66], [213, 94, 0]):
        assert (picture[:CAPTION_PX] == rgb).all(axis=2).any()
    white = (picture[-7] == 255).all(axis=1)
    assert white.sum() == 251
    assert white[5:256].all()


def test_the_caption_has_the_diameter_in_letters_that_the_font_has(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, ImageFont.FreeTypeFont]] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda draw, xy, text, **_: written.append((text, draw.font)))
    draw_overlay(WorkingImage(noise(100, 100), (2048, 2048), COARSE), Picks.empty(), Lengths(200, 1))
    assert [text for text, _ in written] == ["0 picks of 200 Å; score", "0.3", "0.6", "0.9", "50 nm"]
    for text, font in written:
        absent = bytes(font.getmask("\uffff"))
        assert not [letter for letter in text.replace(" ", "") if bytes(font.getmask(letter)) == absent]


@pytest.mark.parametrize(("width", "length"), [(205, 50), (199, 20), (81, 20), (39.9, 5), (8, 2), (1000, 200)])
def test_a_scale_bar_is_about_a_fifth_of_the_width(width: float, length: float) -> None:
    assert bar_length_nm(width) == length
