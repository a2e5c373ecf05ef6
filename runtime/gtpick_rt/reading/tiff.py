"""TIFF images: tifffile judges the tags, then Pillow decodes.

Pillow's libtiff reads every usual compression, and never into more memory than the tags declare.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from gtpick_rt.errors import FormatError, IncompleteError, MicrographError
from gtpick_rt.reading.info import UNFINISHED, ImageInfo, check_size, regular_size, translated_errors

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32")
ORIENTATION = 274
UPRIGHT = 1


def probe(path: Path) -> ImageInfo:
    """Read the tags and check that all strips or tiles lie within the file.

    A TIFF's resolution tags are about printing, so the pixel size is unknown.
    Raises UnreadableError, FormatError or IncompleteError.
    """
    size = regular_size(path)
    with _translated_errors(path), path.open("rb") as file:
        _check_directory_is_there(path, file, size)
        with tifffile.TiffFile(file) as tiff:
            return _describe(path, tiff, size)


def read(path: Path) -> tuple[ImageInfo, NDArray[np.generic]]:
    """Read an image: its description and its `(h, w)` pixels, rows flipped.

    Raises what `probe` raises.

    A TIFF stores the top row first, an MRC the bottom row of the same picture; RELION flips TIFFs
    likewise.
    """
    info = probe(path)
    with _translated_errors(path), path.open("rb") as file:
        witness = _Witness(file)
        try:
            # Not Image.open: its limit on pixels is global, and lower than large detectors need.
            pixels = np.asarray(TiffImagePlugin.TiffImageFile(cast("IO[bytes]", witness)))
        finally:
            if witness.error is not None:
                raise witness.error
    if pixels.shape != (info.height, info.width):
        raise FormatError(f"{path}: the TIFF decodes to shape {pixels.shape}, not to one grey image; convert it to MRC")
    if info.mode == "int8":  # Pillow has no signed bytes
        pixels = pixels.view(np.int8)
    return info, pixels[::-1]


class _Witness:
    """Reads a file for Pillow, which takes some errors of the disk for the end of the tags, and
    keeps the error.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self.error: OSError | None = None
        self._read, self.seek, self.tell = file.read, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        try:
            return self._read(size)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """As `translated_errors`; and whatever else damaged bytes make a parser raise becomes a
    FormatError.
    """
    with translated_errors(path):
        try:
            yield
        except (MicrographError, OSError):
            raise
        except Exception as error:
            raise FormatError(f"{path}: not a TIFF file that can be read ({error}); convert it to MRC") from error


def _check_directory_is_there(path: Path, file: io.BufferedReader, size: int) -> None:
    """Raise IncompleteError for a file whose tags are still to come: many programs
    write them last.
    """
    head = file.read(16).ljust(16, b"\0")
    file.seek(0)
    order = ">" if head.startswith(b"MM") else "<"
    big = struct.unpack_from(order + "H", head, 2) == (43,)
    (offset,) = struct.unpack_from(order + "Q", head, 8) if big else struct.unpack_from(order + "I", head, 4)
    if size < 8 or (head[:2] in (b"II", b"MM") and not 8 <= offset < size):
        raise IncompleteError(f"{path}: {size} bytes without the TIFF's tags: {UNFINISHED}")


def _describe(path: Path, tiff: tifffile.TiffFile, size: int) -> ImageInfo:
    page = tiff.pages.first
    check_size(path, page.imagewidth, page.imagelength)
    if tiff.pages.is_multipage:
        raise FormatError(f"{path}: a TIFF of several pages; give one motion-corrected image per file")
    if page.samplesperpixel != 1 or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise FormatError(f"{path}: a colour TIFF; convert it to grey")
    dtype = str(page.dtype)
    if dtype not in DTYPES:
        raise FormatError(f"{path}: TIFF pixels of type {dtype} are not read; convert them to float32")
    orientation = page.tags.valueof(ORIENTATION, UPRIGHT)
    if orientation != UPRIGHT:
        raise FormatError(f"{path}: TIFF orientation {orientation} is not read; write the file with orientation 1")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size:
        raise IncompleteError(f"{path}: {size} of {max(ends, default=0)} bytes are there: {UNFINISHED}")
    return ImageInfo(path, page.imagewidth, page.imagelength, dtype, None, sign="the tag of the TIFF")
