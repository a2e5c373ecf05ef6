"""Pictures of micrographs with their picks, to look at."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gtpick_rt.preprocess import WorkingImage
from gtpick_rt.types import FloatArray, Picks

MAX_SIDE_PX = 1024
_LOW_RGB, _HIGH_RGB = np.array([86, 180, 233]), np.array([230, 159, 0])
"""Sky blue and orange of the Okabe-Ito palette, which colour-blind readers tell apart."""
_CAPTION_HEIGHT_PX = 14


def draw_overlay(image: WorkingImage, picks: Picks, diameter_px: float) -> bytes:
    """Draw `picks` as circles of `diameter_px` on the flattened micrograph; blue is a low score, orange a high one.

    `picks` and `diameter_px`, the particle's nominal diameter, are in pixels of the micrograph. Returns a PNG with at
    most `MAX_SIDE_PX` pixels on its long side.
    """
    picture = _picture(image.data)
    draw = ImageDraw.Draw(picture)
    zoom = np.array(picture.size) / image.shape[::-1]
    centres = (picks.xy_px + 0.5) * zoom - 0.5
    colours = _LOW_RGB + picks.score[:, None] * (_HIGH_RGB - _LOW_RGB)
    for (x, y), rgb in zip(centres.tolist(), colours.round().astype(int).tolist(), strict=True):
        draw.circle((x, y), diameter_px * float(zoom.mean()) / 2, outline=tuple(rgb))
    caption = f"{len(picks)} picks"
    draw.rectangle((0, 0, draw.textlength(caption) + 5, _CAPTION_HEIGHT_PX), fill="black")
    draw.text((3, 1), caption, fill="white")
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)  # on noise, as small as the default and several times faster
    return png.getvalue()


def _picture(data: FloatArray) -> Image.Image:
    """Reduce `data` to at most `MAX_SIDE_PX` and show its 1st to 99th percentile from black to white."""
    image = Image.fromarray(data)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(image)
    low, high = np.percentile(pixels, (1, 99))
    grey: NDArray[np.uint8] = (np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
