"""Reading micrographs: whatever the format, out come finite float32 pixels, row 0 first as in an MRC file."""

import logging
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import FormatError, PixelError
from gtpick_rt.reading.info import SUFFIXES, TIFF_SUFFIXES, ImageInfo, check_name, suffix_of
from gtpick_rt.types import FloatArray, Micrograph

__all__ = ["ImageInfo", "choose_pixel_size", "probe", "read_micrograph"]

MAX_BAD_FRACTION = 0.01
"""Up to this share of pixels may be NaN or infinite (dead detector pixels, borders after motion correction)."""

log = logging.getLogger("gtpick_rt")


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

    Raises what `probe` raises, and PixelError: too many NaN or infinite pixels, or the pixel size is unknown.
    """
    info, pixels = _format_of(path).read(path)
    pixel = choose_pixel_size(info, pixel_size_A)
    return Micrograph(_finite(path, pixels), pixel, path)


def choose_pixel_size(info: ImageInfo, pixel_size_A: float | None) -> float:
    """Take the option where given, else the header's value, in Å. Raises PixelError when there is neither."""
    if pixel_size_A is None:
        if info.pixel_size_A is None:
            raise PixelError(f"{info.path}: the header does not tell the pixel size: pass --pixel-size")
        return info.pixel_size_A
    if info.pixel_size_A is not None and abs(info.pixel_size_A / pixel_size_A - 1) > 0.01:
        log.warning("%s: using %g Å per pixel; the header says %g", info.path, pixel_size_A, info.pixel_size_A)
    return pixel_size_A


def _format_of(path: Path) -> ModuleType:
    check_name(path)
    suffix = suffix_of(path.name)
    if not suffix:
        raise FormatError(f"{path}: not a kind of file that is read; convert it to one of {' '.join(SUFFIXES)}")
    if suffix in TIFF_SUFFIXES:
        from gtpick_rt.reading import tiff

        return tiff
    from gtpick_rt.reading import mrc

    return mrc


def _finite(path: Path, pixels: NDArray[np.generic]) -> FloatArray:
    """`pixels` as float32, the few that are NaN or infinite replaced by the median of the others."""
    data = np.ascontiguousarray(pixels, dtype=np.float32)
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    if bad == 0:
        return data
    if bad >= MAX_BAD_FRACTION * data.size:
        raise PixelError(f"{path}: {bad} of {data.size} pixels are NaN or infinite; write the micrograph again")
    log.warning("%s: %d NaN or infinite pixels replaced by the median", path, bad)
    data[~finite] = np.median(data[finite])
    return data
