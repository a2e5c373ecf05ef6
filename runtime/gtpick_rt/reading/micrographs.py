"""Reading micrographs: whatever the format, out come finite float pixels, row 0 first as in an MRC
file.
"""

import math
from pathlib import Path
from types import ModuleType

from gtpick_rt.errors import FormatError, PixelError
from gtpick_rt.reading.defects import mended
from gtpick_rt.reading.field_of_view import judge_pixel_size
from gtpick_rt.reading.info import DUMMY_PIXEL_A, TIFF_SUFFIXES, ImageInfo, fault_of_name, not_read, suffix_of
from gtpick_rt.reading.signs import with_sign
from gtpick_rt.records import quoted
from gtpick_rt.types import Micrograph

MAX_DISAGREEMENT = 0.01
"""Up to this share of each other two pixel sizes are the same: programs round them."""


def probe(path: Path) -> ImageInfo:
    """Read the header of an image, in milliseconds whatever the size of the image.

    Raises:
        UnreadableError: the file is missing, forbidden, not a regular file, or the disk gave an
            error.
        FormatError: not an image that is read, a stack, a colour image, or a damaged header.
        IncompleteError: shorter than its header says. Of a compressed file only reading all of it
            can tell.

    """
    return _format_of(path).probe(path)


def read_micrograph(
    path: Path, pixel_size_A: float | None = None, listed_A: float | None = None, *, keep_float16: bool = False
) -> Micrograph:
    """Read one micrograph, of `pixel_size_A`, else of `listed_A`, else of the header's pixel size.

    Pixels become float32; `keep_float16` leaves those of float16 files, which halves the memory,
    but NumPy and SciPy can do little with them.

    Its `warnings` tell of bad pixels that were replaced, and of pixel sizes that disagree. Raises
    what `probe` raises, and PixelError: too many NaN or infinite pixels, or the pixel size is
    unknown.
    """
    info, pixels = _format_of(path).read(path)
    pixel, warnings = choose_pixel_size(info, pixel_size_A, listed_A)
    pixels, sign = with_sign(pixels, info.sign)
    data, flaws = mended(path, pixels, keep_float16)
    return Micrograph(data, pixel, path, (*warnings, *((sign,) if sign else ()), *flaws))


def choose_pixel_size(
    info: ImageInfo, pixel_size_A: float | None, listed_A: float | None = None
) -> tuple[float, tuple[str, ...]]:
    """Choose the Å per pixel of an image: the option's, else the list's, else the header's.

    The list is the STAR or .cs file that names the image. A header's 0 or exactly 1, which programs
    write when they do not know, is never chosen. The second value warns of each that says
    otherwise, by more than MAX_DISAGREEMENT.

    Raises PixelError when there is none, or one that is not the option's and cannot be true.
    """
    header_A = info.pixel_size_A
    is_dummy = header_A is not None and math.isclose(header_A, DUMMY_PIXEL_A, rel_tol=1e-6)
    known = (pixel_size_A, listed_A, None if is_dummy else header_A)
    chosen = next((value for value in known if value is not None), None)
    if chosen is None:
        raise PixelError(
            f"{info.path}: the header does not tell the pixel size (0 and exactly 1.00 Å/px, which programs write "
            "when they do not know it, do not count): pass --pixel-size"
        )
    header = "the header, as if it did not know," if is_dummy else "the header"
    if pixel_size_A is None:
        judge_pixel_size(info.path, chosen, (info.height, info.width))
    disagreeing = (
        f"using {chosen:g} Å per pixel; {source} says {value:g}"
        for source, value in (("the list of micrographs", listed_A), (header, header_A))
        if value is not None and abs(value / chosen - 1) > MAX_DISAGREEMENT
    )
    return chosen, (*info.warnings, *disagreeing)


def _format_of(path: Path) -> ModuleType:
    fault = fault_of_name(path)
    if fault:
        raise FormatError(f"{quoted(str(path))}: the file name {fault}; rename the file")
    suffix = suffix_of(path.name)
    if not suffix:
        raise FormatError(not_read(path))
    if suffix in TIFF_SUFFIXES:
        from gtpick_rt.reading import tiff

        return tiff
    from gtpick_rt.reading import mrc

    return mrc
