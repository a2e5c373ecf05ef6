"""Plots of what the benchmarks have found: each is drawn from a file in results/, beside it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

Draw = Callable[[dict[str, Any], Path], None]
"""Draws what a file of figures holds to a PNG."""
NOTE = "figures sha256"
"""The text in a PNG that tells of which file of figures it is."""


def plot(figures: Path, draw: Draw) -> Path:
    """Draw a file of figures, and note in the picture of which it is; returns the PNG."""
    path = figures.with_suffix(".png")
    draw(json.loads(figures.read_text()), path)
    note = PngInfo()
    note.add_text(NOTE, sha256(figures))
    with Image.open(path) as image:
        image.save(path, pnginfo=note, dpi=image.info["dpi"])
    return path


def is_of(picture: Path, figures: Path) -> bool:
    """Whether a plot was drawn from this file of figures as it is now."""
    with Image.open(picture) as image:
        return bool(image.info.get(NOTE) == sha256(figures))


def sha256(figures: Path) -> str:
    """Of a file of figures."""
    return hashlib.sha256(figures.read_bytes()).hexdigest()
