"""What a header says about an image, and the limits within which it is believed."""

import gzip
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gtpick_rt.errors import FormatError, IncompleteError, MicrographError, UnreadableError

MRC_SUFFIXES = (".mrc", ".mrcs", ".mrc.gz", ".mrc.bz2")
TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = MRC_SUFFIXES + TIFF_SUFFIXES
"""Names that end so, in any case, are taken for micrographs."""

DUMMY_PIXEL_A = 1.0
"""What programs write for the pixel size when they do not know it; hardly ever the true one."""

MAX_SIDE = 1 << 16
MAX_PIXELS = 1 << 28

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

UNFINISHED = "truncated, or still being written: wait until it is whole, or copy it again"
"""What is wrong with a file that ends too early, and the way out."""


@dataclass(frozen=True)
class ImageInfo:
    """One image, as its header describes it."""

    path: Path
    width: int
    height: int
    mode: str
    """Pixel type, for people: "float32", "big-endian int16"."""
    pixel_size_A: float | None
    """Å per pixel as the header says, be it DUMMY_PIXEL_A; None when it does not, or says 0 or
    nonsense."""
    sign: str = field(default="", compare=False)
    """Who says whether integers have a sign; "" where nobody does."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What is odd about the header."""


def not_read(path: Path) -> str:
    """What is said of a file whose name has none of SUFFIXES."""
    return f"{path}: not a kind of file that is read; convert it to one of {' '.join(SUFFIXES)}"


def suffix_of(name: str) -> str:
    """Find the suffix among SUFFIXES that `name` ends with, in lower case, or "" when it ends with
    none.
    """
    return max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")


def fault_of_name(path: Path) -> str:
    """Tell why `path` cannot be written to a STAR file or shown on a terminal, or ""
    when it can.
    """
    if _CONTROL.search(str(path)):
        return "has control characters"
    if "'" in str(path) and '"' in str(path):
        # STAR files would need a text field for it, at which RELION takes the table for ended.
        return "has both kinds of quotes"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    return ""


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse dimensions that no detector has. Raises FormatError."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise FormatError(
            f"{path}: the header gives {width} x {height} pixels; at most {MAX_SIDE} a side "
            f"and {MAX_PIXELS} in all are read. Is it really a micrograph?"
        )


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system and the decompressors raise into our own errors, naming
    `path`.
    """
    try:
        yield
    except MicrographError:
        raise
    except EOFError as error:
        raise IncompleteError(f"{path}: the file ends too early: {UNFINISHED}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path}: the compressed data are damaged ({error}); copy the file again") from error
    except OSError as error:
        if error.errno is None:  # how bz2 reports a damaged stream
            raise FormatError(f"{path}: the data are damaged ({error}); copy the file again") from error
        hint = ""
        if isinstance(error, FileNotFoundError) and not path.is_absolute():
            hint = "; names in a STAR file are relative to the RELION project: run from there"
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}{hint}") from error


def regular_size(path: Path) -> int:
    """Size of a file in bytes.

    Raises UnreadableError when it is missing, or a folder, pipe or device.
    """
    with translated_errors(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(f"{path}: not a regular file; name an image file")
    return status.st_size
