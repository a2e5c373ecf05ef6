"""Pixel sizes that cannot be true."""

from pathlib import Path

import pytest

from gtpick_rt.errors import PixelError
from gtpick_rt.reading.field_of_view import judge_pixel_size

PATH = Path("in/a.mrc")


@pytest.mark.parametrize("pixel_A", [0.05, 0.0885, 0.1, 0.2, 0.29])
def test_a_pixel_size_in_nm_is_refused_with_the_way_out(pixel_A: float) -> None:
    with pytest.raises(PixelError, match=rf"in/a.mrc: .*if it is in nm, pass --pixel-size {10 * pixel_A:g}") as raised:
        judge_pixel_size(PATH, pixel_A, (4096, 4096), 191)
    assert f"if it is right, --pixel-size {pixel_A:g}" in str(raised.value)


@pytest.mark.parametrize(
    ("pixel_A", "shape", "diameter_A"),
    [
        (0.25, (11520, 8184), 191),
        (0.5, (7676, 7420), 191),
        (0.3, (4096, 4096), 150),
        (8.8, (300, 300), 400),
        (2, (640, 640), 120),
    ],
)
def test_a_pixel_size_that_can_be_true_is_taken_without_a_word(
    pixel_A: float, shape: tuple[int, int], diameter_A: float
) -> None:
    assert judge_pixel_size(PATH, pixel_A, shape, diameter_A) == ""


def test_a_doubtful_one_is_told_of_and_so_is_one_that_was_given() -> None:
    assert "if it is in nm, pass --pixel-size 3.5" in judge_pixel_size(PATH, 0.35, (1024, 1024), 191)
    assert "is --pixel-size in nm?" in judge_pixel_size(PATH, 0.2, (640, 640), 120, given=True)
