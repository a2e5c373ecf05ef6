"""MRC images: MRC2014 and its common deviations, plain or compressed.

The header is judged before anything of the size that it claims is read or allocated; then mrcfile
reads the pixels.
"""

import bz2
import gzip
import io
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mrcfile.constants import IMAGE_STACK_SPACEGROUP
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.mrcinterpreter import MrcInterpreter
from mrcfile.utils import dtype_from_mode
from numpy.typing import NDArray

from gtpick_rt.errors import FormatError, IncompleteError
from gtpick_rt.reading.info import MAX_SIDE, UNFINISHED, ImageInfo, check_size, regular_size, translated_errors

HEADER_BYTES = 1024
MAX_EXTENDED_HEADER_BYTES = 1 << 26
"""Several times what instruments write; a larger `nsymbt` is damage."""

MODES = (0, 1, 2, 6, 12)
"""Those that a micrograph can have. 3 and 4 are complex; 101 is packed 4-bit, which mrcfile does
not read."""

_BYTES = 0
"""The mode whose bytes have a sign by MRC2014, and in many programs none."""
_IMOD_AT, _IMOD_STAMP, _IMOD_SIGNED = 152, 1146047817, 1
"""Where IMOD marks a header as its own, and the flag after it that bytes have a sign."""
PLAUSIBLE_PIXEL_A = (0.05, 100.0)
_SQUARE = 0.01
"""Pixel sizes along both axes that differ by no more than this share are one."""
_CHUNK_BYTES = 1 << 20
"""Read at once: a decompressor takes that much memory beside the image."""
_HEADER_OF = {order: HEADER_DTYPE.newbyteorder(order) for order in "<>"}


@dataclass(frozen=True)
class Header:
    """What an MRC header that was judged says about the image."""

    width: int
    height: int
    dtype: np.dtype[np.generic]
    data_offset: int
    pixel_size_A: float | None
    fields: NDArray[np.void] = field(repr=False, compare=False)
    """The whole header as mrcfile takes it, in the right byte order, and of a single image."""
    sign: str = ""
    """Who says whether the integers have a sign; "" where nobody does."""
    warnings: tuple[str, ...] = ()
    """What is odd about it, though the image can be read."""

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
    """Read an image: its description and its `(h, w)` pixels as stored.

    Raises what `probe` raises.
    """
    size = regular_size(path)
    with translated_errors(path), _open(path) as file:
        header = _read_header(path, file, size)
        file.seek(header.data_offset)
        pixels = _Image(path, file, header).data.view(header.dtype)
        if not isinstance(file, io.BufferedReader):
            _check_end(path, file)
    return _describe(path, header), pixels


class _Image(MrcInterpreter):  # type: ignore[misc]
    """mrcfile's reader, of the pixels behind a header that was judged.

    It is given the open file, for mrcfile's own ways of opening one do not suit a run. They
    decompress a compressed file whole, be it as large as it may, to learn its size, and again to
    read it. A file that ends too early is an invalid one to them; here another machine may still be
    writing it. A mapped one ends the process (SIGBUS) when it is cut short.
    """

    def __init__(self, path: Path, file: io.BufferedIOBase, header: Header) -> None:
        super().__init__()
        self._path, self._iostream, self._offset = path, file, header.data_offset
        self._header = header.fields.view(np.recarray)
        self._read_data()

    def _read_bytearray_from_stream(self, number_of_bytes: int) -> tuple[NDArray[np.uint8], int]:
        """Read into fresh memory: a bytearray is filled with zeros first, which takes longer than
        reading.
        """
        pixels = np.empty(number_of_bytes, np.uint8)
        buffer, got = pixels.data, 0
        while got < number_of_bytes:
            more = self._iostream.readinto(buffer[got : got + _CHUNK_BYTES])
            if not more:
                raise _incomplete(self._path, self._offset + number_of_bytes, self._offset + got)
            got += more
        return pixels, got

    def flush(self) -> None:
        """Write nothing: the file is only read."""


def _check_end(path: Path, file: io.BufferedIOBase) -> None:
    """Read a compressed file to its end, where its checksum is; the little that may follow the
    pixels is ignored.
    """
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
    """Make sense of the first 1024 bytes of an MRC file; `path` is for messages.

    Raises FormatError.
    """
    fields = _fields(path, head)
    width, height, depth, mode = _shape_and_mode(fields)
    check_size(path, width, height)
    if depth != 1:
        raise FormatError(f"{path}: a stack or volume of {depth} images; give one motion-corrected image per file")
    if mode not in MODES:
        raise FormatError(f"{path}: MRC mode {mode} is not read; convert it to one of the modes {list(MODES)}")
    extended = int(fields["nsymbt"])
    if not 0 <= extended <= MAX_EXTENDED_HEADER_BYTES:
        raise FormatError(
            f"{path}: an extended header of {extended} bytes; the header is damaged, write the file again"
        )
    # By the space group of a volume stack mrcfile would divide by the depth of a volume, which may
    # be 0.
    fields["ispg"] = IMAGE_STACK_SPACEGROUP
    order = fields["mode"].dtype.byteorder
    dtype, sign, warnings = dtype_from_mode(mode).newbyteorder(order), f"MRC mode {mode}", _oddities(fields)
    if mode == _BYTES:
        imod, flags = struct.unpack_from(f"{'>' if order == '>' else '<'}2i", head, _IMOD_AT)
        sign = "the flag of IMOD" if imod == _IMOD_STAMP else ""
        if sign and not flags & _IMOD_SIGNED:
            dtype, warnings = np.dtype(np.uint8), (*warnings, "read as unsigned 8-bit integers, by the flag of IMOD")
    return Header(width, height, dtype, HEADER_BYTES + extended, _pixel_size(fields), fields, sign, warnings)


def _fields(path: Path, head: bytes) -> NDArray[np.void]:
    """Find the byte order in which the header makes sense; some programs write a wrong machine
    stamp, or none.
    """
    for order in "><" if head[212] == 0x11 else "<>":
        fields = np.frombuffer(bytearray(head), _HEADER_OF[order]).reshape(())
        width, height, depth, mode = _shape_and_mode(fields)
        if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and depth > 0 and 0 <= mode < 128:
            return fields
    width, height, depth, mode = _shape_and_mode(np.frombuffer(head, _HEADER_OF["<"]).reshape(()))
    raise FormatError(
        f"{path}: not an MRC file, or its header is damaged ({width} x {height} x {depth} pixels of mode {mode})"
    )


def _shape_and_mode(fields: NDArray[np.void]) -> tuple[int, int, int, int]:
    """Width, height, depth and mode."""
    return int(fields["nx"]), int(fields["ny"]), int(fields["nz"]), int(fields["mode"])


def _pixel_size(fields: NDArray[np.void]) -> float | None:
    """Å per pixel as the header says; None for 0 and nonsense."""
    return _step(int(fields["mx"]), float(fields["cella"]["x"]))


def _step(intervals: int, cell_A: float) -> float | None:
    """Å per pixel along one axis."""
    if intervals <= 0 or not math.isfinite(cell_A):
        return None
    pixel = cell_A / intervals
    low, high = PLAUSIBLE_PIXEL_A
    return pixel if low <= pixel <= high else None


def _oddities(fields: NDArray[np.void]) -> tuple[str, ...]:
    """What the header says that cannot all be true."""
    x, y = _pixel_size(fields), _step(int(fields["my"]), float(fields["cella"]["y"]))
    if x is None or y is None or abs(x / y - 1) < _SQUARE:
        return ()
    return (f"the header gives {x:g} Å per pixel along x, and {y:g} along y, which is not heeded",)


def _describe(path: Path, header: Header) -> ImageInfo:
    order = "big-endian " if header.dtype.byteorder == ">" else ""
    mode = order + header.dtype.name
    return ImageInfo(
        path, header.width, header.height, mode, header.pixel_size_A, sign=header.sign, warnings=header.warnings
    )


def _incomplete(path: Path, needed: int, got: int) -> IncompleteError:
    return IncompleteError(f"{path}: {got} of {needed} bytes are there: {UNFINISHED}")
