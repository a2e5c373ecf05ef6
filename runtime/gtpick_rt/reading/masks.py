"""Masks of micrographs: white where picks may lie, black where not."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gtpick_rt.errors import FormatError
from gtpick_rt.reading import mrc
from gtpick_rt.reading.info import check_size, translated_errors
from gtpick_rt.reading.signs import with_sign

SUFFIXES = (".mrc", ".png")
_ALIKE = 0.02
"""Ratios of the sides of a mask and of its micrograph may differ by as much: masks are made of
reduced images."""
Mask = NDArray[np.bool_]


def mask_beside(folder: Path, stem: str) -> Path | None:
    """The mask of a micrograph whose outputs are called `stem`, in a folder of masks; None where
    there is none.
    """
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def read_mask(path: Path, shape: tuple[int, int], working_shape: tuple[int, int]) -> Mask:
    """Read where picks may lie on a micrograph of `(h, w)` pixels `shape`, at `working_shape`.

    White is what is brighter than half of the mask's largest value; row 0 is the first one stored
    in an MRC, and the top one of a PNG, as in overlays. Raises FormatError or UnreadableError.
    """
    pixels = read_pixels(path)
    (h, w), (height, width) = pixels.shape, shape
    if abs((w / h) / (width / height) - 1) > _ALIKE:
        raise FormatError(
            f"{path}: a mask of {w} x {h} px does not have the shape of its micrograph, {width} x {height} px; "
            "make one of the same shape, of whatever size"
        )
    white = Image.fromarray((pixels > pixels.max() / 2).astype(np.float32))
    return np.asarray(white.resize(working_shape[::-1], Image.Resampling.BOX)) > 0.5


read_one_mask = lru_cache(maxsize=8)(read_mask)
"""The same for the mask of all micrographs, which is read once for each of their shapes."""


def read_pixels(path: Path) -> NDArray[np.float32]:
    """Read the `(h, w)` grey values of an MRC or PNG file.

    Raises FormatError or UnreadableError.
    """
    if path.suffix.lower() == ".mrc":
        info, pixels = mrc.read(path)
        return with_sign(pixels, info.sign)[0].astype(np.float32)
    try:
        with translated_errors(path), Image.open(path, formats=["PNG"]) as image:
            check_size(path, *image.size)
            grey = image if image.mode.startswith("I") else image.convert("L")
            return np.asarray(grey, np.float32)
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"{path}: is no mask, MRC or PNG ({error})") from error
