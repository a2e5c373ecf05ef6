"""MRC images: MRC2014 and its common deviations, plain or compressed.

The header is judged before anything of the size that it claims is read or allocated.
"""

import bz2
import gzip
import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import FormatError, IncompleteError
from gtpick_rt.reading.info import MAX_SIDE, UNFINISHED, ImageInfo, check_size, regular_size, translated_errors

HEADER_BYTES = 1024
MAX_EXTENDED_HEADER_BYTES = 1 << 26
"""Several times what instruments write; a larger `nsymbt` is damage."""

DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""NumPy type of each mode that a micrograph can have. 3 and 4 are complex, 101 is packed 4-bit."""

PLAUSIBLE_PIXEL_A = (0.05, 100.0)
_CHUNK_BYTES = 1 << 20
"""Read at once: a decompressor takes that much memory beside the image."""


@dataclass(frozen=True)
class Header:
    """The fields of an MRC header that reading an image needs."""

    width: int
    height: int
    dtype: np.dtype[np.generic]
    data_offset: int
    pixel_size_A: float | None

    @property
    def data_bytes(self) -> int:
        """Length of the pixels in the file."""
        return self.width * self.height * self.dtype.itemsize


def probe(path: Path) -> ImageInfo:
    """Read the header; of an uncompressed file, check also that all its pixels are there.

    Raises UnreadableError, FormatError or IncompleteError.
    """
    size = regular_size(path)
    with translated_errors(path), _open(path) as file:
        return _describe(path, _read_header(path, file, size))


def read(path: Path) -> tuple[ImageInfo, NDArray[np.generic]]:
    """Read an image: its description and its `(h, w)` pixels as stored. Raises what `probe` raises."""
    size = regular_size(path)
    with translated_errors(path), _open(path) as file:
        header = _read_header(path, file, size)
        file.seek(header.data_offset)
        pixels = np.empty((header.height, header.width), header.dtype)
        got = _fill(file, pixels.reshape(-1).view(np.uint8).data)
        if got != header.data_bytes:
            raise _incomplete(path, header.data_offset + header.data_bytes, header.data_offset + got)
        if not isinstance(file, io.BufferedReader):
            _check_end(path, file)
    return _describe(path, header), pixels


def _fill(file: io.BufferedIOBase, buffer: memoryview) -> int:
    """Read until `buffer` is full or the file ends; returns the number of bytes."""
    got = 0
    while got < len(buffer):
        more = file.readinto(buffer[got : got + _CHUNK_BYTES])
        if not more:
            break
        got += more
    return got


def _check_end(path: Path, file: io.BufferedIOBase) -> None:
    """Read a compressed file to its end, where its checksum is; the little that may follow the pixels is ignored."""
    if len(file.read(_CHUNK_BYTES)) == _CHUNK_BYTES:
        raise FormatError(f"{path}: holds much more than the image of its header; write the file again")


def _open(path: Path) -> io.BufferedIOBase:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)
    if suffix == ".bz2":
        return bz2.open(path)
    return path.open("rb")


def _read_header(path: Path, file: io.BufferedIOBase, size: int) -> Header:
    head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise _incomplete(path, HEADER_BYTES, len(head))
    header = parse_header(path, head)
    needed = header.data_offset + header.data_bytes
    if isinstance(file, io.BufferedReader) and size < needed:
        raise _incomplete(path, needed, size)
    return header


def parse_header(path: Path, head: bytes) -> Header:
    """Make sense of the first 1024 bytes of an MRC file; `path` is for messages. Raises FormatError."""
    order = _byte_order(path, head)
    width, height, depth, mode = struct.unpack_from(order + "4i", head)
    check_size(path, width, height)
    if depth != 1:
        raise FormatError(f"{path}: a stack or volume of {depth} images; give one motion-corrected image per file")
    if mode not in DTYPES:
        raise FormatError(f"{path}: MRC mode {mode} is not read; convert it to one of the modes {sorted(DTYPES)}")
    (extended,) = struct.unpack_from(order + "i", head, 92)
    if not 0 <= extended <= MAX_EXTENDED_HEADER_BYTES:
        raise FormatError(
            f"{path}: an extended header of {extended} bytes; the header is damaged, write the file again"
        )
    dtype = np.dtype(DTYPES[mode]).newbyteorder("<" if order == "<" else ">")
    return Header(width, height, dtype, HEADER_BYTES + extended, _pixel_size(order, head))


def _byte_order(path: Path, head: bytes) -> str:
    """Find the byte order in which the header makes sense; some programs write a wrong machine stamp, or none."""
    for order in "><" if head[212] == 0x11 else "<>":
        width, height, depth, mode = struct.unpack_from(order + "4i", head)
        if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and depth > 0 and 0 <= mode < 128:
            return order
    width, height, depth, mode = struct.unpack_from("<4i", head)
    raise FormatError(
        f"{path}: not an MRC file, or its header is damaged ({width} x {height} x {depth} pixels of mode {mode})"
    )


def _pixel_size(order: str, head: bytes) -> float | None:
    """Å per pixel as the header says; None for 0 and nonsense."""
    (intervals,) = struct.unpack_from(order + "i", head, 28)
    (cell_A,) = struct.unpack_from(order + "f", head, 40)
    if intervals <= 0 or not math.isfinite(cell_A):
        return None
    pixel = cell_A / intervals
    low, high = PLAUSIBLE_PIXEL_A
    return pixel if low <= pixel <= high else None


def _describe(path: Path, header: Header) -> ImageInfo:
    order = "big-endian " if header.dtype.byteorder == ">" else ""
    return ImageInfo(path, header.width, header.height, order + header.dtype.name, header.pixel_size_A)


def _incomplete(path: Path, needed: int, got: int) -> IncompleteError:
    return IncompleteError(f"{path}: {got} of {needed} bytes are there: {UNFINISHED}")
