"""Pictures of micrographs, with their picks and without."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.types import Picks

MAX_SIDE_PX = 1024
_PREVIEW_SIGMA = 3.0
"""Grey values of a preview reach so many robust standard deviations to either side."""
_SCORES = np.array([0.3, 0.6, 0.9])
_RGB = np.array([[86, 180, 233], [240, 228, 66], [213, 94, 0]])
"""Sky blue, yellow and vermilion of the Okabe-Ito palette, which colour-blind readers tell apart,
for these scores."""
_CAPTION_HEIGHT_PX = 14


def draw_overlay(image: WorkingImage, picks: Picks, diameter_px: float) -> bytes:
    """Draw `picks` as circles of `diameter_px` on the flattened micrograph, blue for low scores to
    red for high ones.

    `picks` and `diameter_px`, the particle's nominal diameter, are in pixels of the micrograph.
    Returns a PNG as large as the micrograph, but with at most `MAX_SIDE_PX` pixels on its long
    side.
    """
    return _with_circles(_picture(image), image.shape, picks, diameter_px)


def draw_on_preview(preview: bytes, shape: tuple[int, int], picks: Picks, diameter_px: float) -> bytes:
    """Draw an overlay as `draw_overlay` does, of a micrograph of `(h, w)` pixels of which there is
    but the preview.

    Raises OSError when the preview is damaged.
    """
    with Image.open(io.BytesIO(preview)) as opened:
        picture = opened.convert("RGB").resize(_size(shape), Image.Resampling.BICUBIC)
    return _with_circles(picture, shape, picks, diameter_px)


def _with_circles(picture: Image.Image, shape: tuple[int, int], picks: Picks, diameter_px: float) -> bytes:
    draw = ImageDraw.Draw(picture)
    zoom = np.array(picture.size) / shape[::-1]
    centres = (picks.xy_px + 0.5) * zoom - 0.5
    colours = np.stack([np.interp(picks.score, _SCORES, channel) for channel in _RGB.T], axis=1)
    for (x, y), rgb in zip(centres.tolist(), colours.round().astype(int).tolist(), strict=True):
        draw.circle((x, y), diameter_px * float(zoom.mean()) / 2, outline=tuple(rgb), width=2)
    caption = f"{len(picks)} picks"
    draw.rectangle((0, 0, draw.textlength(caption) + 5, _CAPTION_HEIGHT_PX), fill="black")
    draw.text((3, 1), caption, fill="white")
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)  # on noise, as small as the default and several times faster
    return png.getvalue()


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
