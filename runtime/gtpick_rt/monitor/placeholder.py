"""A picture where there is none."""

import io

from PIL import Image

_LONG_SIDE_PX = 256
_GREY = 128


def placeholder(width: int, height: int) -> bytes:
    """Draw a plain grey JPEG with the proportions of a micrograph."""
    scale = _LONG_SIDE_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    jpeg = io.BytesIO()
    Image.new("L", size, _GREY).save(jpeg, "JPEG")
    return jpeg.getvalue()
