"""Pictures of micrographs, with their picks and without."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.records import counted
from gtpick_rt.types import Picks

MAX_SIDE_PX = 1024
_PREVIEW_SIGMA = 3.0
"""Grey values of a preview reach so many robust standard deviations to either side."""
_SCORES = np.array([0.3, 0.6, 0.9])
_RGB = np.array([[86, 180, 233], [240, 228, 66], [213, 94, 0]])
"""Sky blue, yellow and vermilion of the Okabe-Ito palette, which colour-blind readers tell apart,
for these scores."""
_LETTERS = Path(__file__).with_name("letters.ttf")
"""DejaVu Sans, of which `pyftsubset --unicodes=U+0020-007E,U+00C5 --no-hinting` leaves what is
written here. Pillow's own font has no Å."""
_LEAST_LETTER_PX, _LETTERS_ACROSS = 10, 60


@dataclass(frozen=True)
class Lengths:
    """What a picture is drawn to scale by."""

    diameter_A: float
    """The particle's nominal diameter."""
    pixel_size_A: float
    """Of the micrograph."""


def draw_overlay(image: WorkingImage, picks: Picks, lengths: Lengths) -> bytes:
    """Draw `picks`, in pixels of the micrograph, as circles on the flattened micrograph, blue for
    low scores to red for high ones; with their number, the diameter, a legend and a scale bar.

    Returns a PNG as large as the micrograph, but with at most `MAX_SIDE_PX` pixels on its long
    side.
    """
    return _with_circles(_picture(image), image.shape, picks, lengths)


def draw_on_preview(preview: bytes, shape: tuple[int, int], picks: Picks, lengths: Lengths) -> bytes:
    """Draw an overlay as `draw_overlay` does, of a micrograph of `(h, w)` pixels of which there is
    but the preview.

    Raises OSError when the preview is damaged.
    """
    with Image.open(io.BytesIO(preview)) as opened:
        picture = opened.convert("RGB").resize(_size(shape), Image.Resampling.BICUBIC)
    return _with_circles(picture, shape, picks, lengths)


def _with_circles(picture: Image.Image, shape: tuple[int, int], picks: Picks, lengths: Lengths) -> bytes:
    draw = ImageDraw.Draw(picture)
    zoom = np.array(picture.size) / shape[::-1]
    centres = (picks.xy_px + 0.5) * zoom - 0.5
    radius = lengths.diameter_A / lengths.pixel_size_A * float(zoom.mean()) / 2
    for (x, y), rgb in zip(centres.tolist(), _colours(picks.score), strict=True):
        draw.circle((x, y), radius, outline=rgb, width=2)
    letter_px = max(_LEAST_LETTER_PX, picture.width // _LETTERS_ACROSS)
    _caption(draw, f"{counted(len(picks), 'pick')} of {lengths.diameter_A:.0f} Å; score", letter_px)
    _scale_bar(draw, picture.size, lengths.pixel_size_A / float(zoom[0]), letter_px)
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)  # on noise, as small as the default and several times faster
    return png.getvalue()


def _colours(score: NDArray[np.floating]) -> list[tuple[int, int, int]]:
    channels = np.stack([np.interp(score, _SCORES, channel) for channel in _RGB.T], axis=1)
    return [(red, green, blue) for red, green, blue in channels.round().astype(int).tolist()]


def _caption(draw: ImageDraw.ImageDraw, text: str, letter_px: int) -> None:
    """A line of text, and which score has which colour."""
    draw.font = ImageFont.truetype(_LETTERS, letter_px)
    gap, top, bottom = letter_px // 2, letter_px // 3, letter_px + 4
    scores = [f"{score:g}" for score in _SCORES.tolist()]
    width = draw.textlength(text) + sum(draw.textlength(each) + letter_px + 2 * gap for each in scores) + gap
    draw.rectangle((0, 0, width, bottom), fill="black")
    draw.text((gap, 1), text, fill="white")
    x = gap + draw.textlength(text)
    for each, rgb in zip(scores, _colours(_SCORES), strict=True):
        draw.rectangle((x + gap, top, x + gap + letter_px // 2, bottom - top), fill=rgb)
        draw.text((x + gap + letter_px, 1), each, fill="white")
        x += draw.textlength(each) + letter_px + gap


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], pixel_size_A: float, letter_px: int) -> None:
    """A bar of a round length, about a fifth of the width; `pixel_size_A` of the picture."""
    width, height = size
    length_nm = bar_length_nm(width * pixel_size_A / 10)
    text, long = f"{length_nm:g} nm", 10 * length_nm / pixel_size_A
    room = max(long, draw.textlength(text)) + 10
    draw.rectangle((0, height - letter_px - 16, room, height), fill="black")
    draw.text((5, height - letter_px - 15), text, fill="white")
    draw.rectangle((5, height - 8, 5 + long, height - 5), fill="white")


def bar_length_nm(width_nm: float) -> float:
    """A round length for the scale bar of a picture of this width."""
    decade = 10.0 ** math.floor(math.log10(width_nm / 4))
    return next(decade * each for each in (5, 2, 1) if decade * each <= width_nm / 4)


def draw_preview(image: WorkingImage) -> bytes:
    """Draw the flattened micrograph, with at most `MAX_SIDE_PX` pixels on its long side.

    Returns a grey JPEG.
    """
    grey = np.clip((image.data + _PREVIEW_SIGMA) * (255 / (2 * _PREVIEW_SIGMA)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BILINEAR)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=75)
    return jpeg.getvalue()


def _picture(image: WorkingImage) -> Image.Image:
    """Bring the image to the picture's size and show its 1st to 99th percentile from black to
    white.
    """
    low, high = np.percentile(image.data, (1, 99))
    grey: NDArray[np.uint8] = (np.clip((image.data - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).resize(_size(image.shape), Image.Resampling.BICUBIC).convert("RGB")


def _size(shape: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the overlay of a micrograph of `(h, w)` pixels."""
    height, width = shape
    scale = min(1, MAX_SIDE_PX / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))
