"""Reading micrographs: whatever the format, out come finite float32 pixels, row 0 first as in an MRC file."""

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import FormatError, PixelError
from gtpick_rt.reading.info import SUFFIXES, TIFF_SUFFIXES, ImageInfo, fault_of_name, suffix_of
from gtpick_rt.types import FloatArray, Micrograph

__all__ = ["ImageInfo", "choose_pixel_size", "probe", "read_micrograph"]

MAX_BAD_FRACTION = 0.01
"""Up to this share of pixels may be NaN or infinite (dead detector pixels, borders after motion correction)."""


def probe(path: Path) -> ImageInfo:
    """Read the header of an image, in milliseconds whatever the size of the image.

    Raises:
        UnreadableError: the file is missing, forbidden, not a regular file, or the disk gave an error.
        FormatError: not an image that is read, a stack, a colour image, or a damaged header.
        IncompleteError: shorter than its header says. Of a compressed file only reading all of it can tell.

    """
    return _format_of(path).probe(path)


def read_micrograph(path: Path, pixel_size_A: float | None = None) -> Micrograph:
    """Read one micrograph; `pixel_size_A`, where given, wins over the header's.

    Its `warnings` tell of bad pixels that were replaced, and of pixel sizes that disagree.
    Raises what `probe` raises, and PixelError: too many NaN or infinite pixels, or the pixel size is unknown.
    """
    info, pixels = _format_of(path).read(path)
    pixel, warnings = choose_pixel_size(info, pixel_size_A)
    data, replaced = _finite(path, pixels)
    if replaced:
        warnings = (*warnings, f"{replaced} NaN or infinite pixels replaced by the median")
    return Micrograph(data, pixel, path, warnings)


def choose_pixel_size(info: ImageInfo, pixel_size_A: float | None) -> tuple[float, tuple[str, ...]]:
    """Take the option where given, else the header's value, in Å; with a warning where they disagree.

    Raises PixelError when there is neither.
    """
    if pixel_size_A is None:
        if info.pixel_size_A is None:
            raise PixelError(
                f"{info.path}: the header does not tell the pixel size (0 and exactly 1.00 Å/px, which programs write "
                "when they do not know it, do not count): pass --pixel-size"
            )
        return info.pixel_size_A, ()
    if info.pixel_size_A is not None and abs(info.pixel_size_A / pixel_size_A - 1) > 0.01:
        return pixel_size_A, (f"using {pixel_size_A:g} Å per pixel; the header says {info.pixel_size_A:g}",)
    return pixel_size_A, ()


def _format_of(path: Path) -> ModuleType:
    fault = fault_of_name(path)
    if fault:
        raise FormatError(f"{str(path)!r}: the file name {fault}; rename the file")
    suffix = suffix_of(path.name)
    if not suffix:
        raise FormatError(f"{path}: not a kind of file that is read; convert it to one of {' '.join(SUFFIXES)}")
    if suffix in TIFF_SUFFIXES:
        from gtpick_rt.reading import tiff

        return tiff
    from gtpick_rt.reading import mrc

    return mrc


def _finite(path: Path, pixels: NDArray[np.generic]) -> tuple[FloatArray, int]:
    """`pixels` as float32, the few that are NaN or infinite replaced by the median of the others; and how many."""
    data = np.ascontiguousarray(pixels, dtype=np.float32)
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    if bad == 0:
        return data, 0
    if bad >= MAX_BAD_FRACTION * data.size:
        raise PixelError(f"{path}: {bad} of {data.size} pixels are NaN or infinite; write the micrograph again")
    data[~finite] = np.median(data[finite])
    return data, bad
