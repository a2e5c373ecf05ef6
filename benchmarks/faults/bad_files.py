"""Bad micrographs, names and rows of lists: each makes one file, or none, and gives its name."""

import bz2
import gzip
import os
import socket
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SHAPE = (200, 260)
PIXELS = np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def mrc(pixels: np.ndarray[Any, Any] = PIXELS, mode: int = 2, pixel_A: float = 2.0, **fields: float) -> bytes:
    """An MRC file; `fields` override those of the header."""
    height, width = pixels.shape
    size = {"nx": width, "ny": height, "nz": 1, "mode": mode, "nsymbt": 0, "cell": width * pixel_A, **fields}
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, *(int(size[name]) for name in ("nx", "ny", "nz", "mode")))
    struct.pack_into("<3i", head, 28, width, height, 1)
    struct.pack_into("<3f", head, 40, size["cell"], height * pixel_A, pixel_A)
    struct.pack_into("<i", head, 92, int(size["nsymbt"]))
    head[208:216] = b"MAP \x44\x44\0\0"
    return bytes(head) + pixels.astype({0: "<i1", 1: "<i2", 6: "<u2", 12: "<f2"}.get(mode, "<f4")).tobytes()


def write_good(path: Path) -> None:
    """A micrograph that is whole."""
    path.write_bytes(mrc())


Make = Callable[[Path], str]


def _file(name: str, data: bytes) -> Make:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return name

    return make


def _absent(folder: Path) -> str:
    (folder / "gone.mrc").symlink_to("nowhere.mrc")
    return "gone.mrc"


def _loop(folder: Path) -> str:
    (folder / "loop.mrc").symlink_to("loop.mrc")
    return "loop.mrc"


def _folder(folder: Path) -> str:
    (folder / "folder.mrc").mkdir()
    return "folder.mrc"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.mrc")
    return "pipe.mrc"


def _socket(folder: Path) -> str:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket.mrc"))
    listener.close()
    return "socket.mrc"


def _tiff(name: str, pixels: np.ndarray[Any, Any], keep: slice = slice(None), **options: Any) -> Make:
    def make(folder: Path) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tifffile.imwrite(folder / name, pixels, **options)
        (folder / name).write_bytes((folder / name).read_bytes()[keep])
        return name

    return make


def _pair(folder: Path) -> str:
    (folder / "a_good.tif").write_bytes(b"")
    tifffile.imwrite(folder / "a_good.tif", PIXELS)
    return "a_good.tif"


def _with(count: int, value: float) -> np.ndarray[Any, Any]:
    pixels = PIXELS.copy()
    pixels.ravel()[:count] = value
    return pixels


WHOLE = mrc()
_GREY = PIXELS.astype(np.uint8)
FILES: dict[str, Make] = {
    "a name that is not UTF-8": _file(os.fsdecode(b"caf\xe9.mrc"), WHOLE),
    "a name of two lines": _file("two\nlines.mrc", WHOLE),
    "a name with a tab": _file("tab\t.mrc", WHOLE),
    "a name with an escape": _file("esc\x1b[2J.mrc", WHOLE),
    "a name with both quotes": _file("bo\"th'.mrc", WHOLE),
    "a name too long for its outputs": _file("n" * 250 + ".mrc", WHOLE),
    "a name of other letters": _file("Grünwald-中文.mrc", WHOLE),
    "another suffix": _file("notes.txt", b"notes"),
    "a hidden file": _file(".hidden.mrc", WHOLE),
    "a broken link": _absent,
    "a link to itself": _loop,
    "a folder": _folder,
    "a pipe": _pipe,
    "a socket": _socket,
    "a TIFF beside the MRC": _pair,
    "an empty file": _file("empty.mrc", b""),
    "half a header": _file("head.mrc", WHOLE[:500]),
    "a header alone": _file("only_head.mrc", WHOLE[:1024]),
    "cut short": _file("short.mrc", WHOLE[:-1000]),
    "a header of zeros": _file("blank_head.mrc", bytes(1024) + WHOLE[1024:]),
    "zeros alone": _file("zeros.mrc", bytes(len(WHOLE))),
    "a web page": _file("web.mrc", b"<html>" * 9999),
    "no width": _file("no_width.mrc", mrc(nx=0)),
    "a negative height": _file("negative.mrc", mrc(ny=-200)),
    "a huge width": _file("huge.mrc", mrc(nx=1 << 30)),
    "a movie": _file("movie.mrc", mrc(np.tile(PIXELS, (3, 1)), nz=3, ny=200)),
    "no depth": _file("no_depth.mrc", mrc(nz=0)),
    "complex pixels": _file("complex.mrc", mrc(mode=4)),
    "packed pixels": _file("packed.mrc", mrc(mode=101)),
    "an unknown mode": _file("mode.mrc", mrc(mode=77)),
    "a huge extended header": _file("extended.mrc", mrc(nsymbt=(1 << 31) - 1)),
    "a negative extended header": _file("extended_neg.mrc", mrc(nsymbt=-5)),
    "NaN alone": _file("nan.mrc", mrc(_with(PIXELS.size, np.nan))),
    "many NaN": _file("many_nan.mrc", mrc(_with(5000, np.nan))),
    "a few NaN": _file("few_nan.mrc", mrc(_with(50, np.nan))),
    "infinite pixels": _file("inf.mrc", mrc(_with(5000, np.inf))),
    "pixels too large": _file("large.mrc", mrc(PIXELS * np.float32(2e36))),
    "hot pixels": _file("hot.mrc", mrc(_with(3, 1e38))),
    "one grey level": _file("flat.mrc", mrc(_with(PIXELS.size, 7))),
    "no pixel size": _file("px0.mrc", mrc(cell=0)),
    "the pixel size of who does not know": _file("px1.mrc", mrc(pixel_A=1.0)),
    "a pixel size in nm": _file("px_nm.mrc", mrc(pixel_A=0.2)),
    "a pixel size that is NaN": _file("px_nan.mrc", mrc(cell=np.nan)),
    "pixels too coarse": _file("coarse.mrc", mrc(pixel_A=30.0)),
    "smaller than a particle": _file("small.mrc", mrc(PIXELS[:20, :20])),
    "a column alone": _file("column.mrc", mrc(PIXELS[:, :1])),
    "a TIFF of several pages": _tiff("pages.tif", np.stack([_GREY] * 3), photometric="minisblack"),
    "a TIFF in colour": _tiff("colour.tif", np.stack([_GREY] * 3, axis=-1), photometric="rgb"),
    "a TIFF cut short": _tiff("short.tif", PIXELS, slice(0, 5000)),
    "a TIFF of doubles": _tiff("double.tif", PIXELS.astype(np.float64)),
    "no TIFF": _file("no.tif", b"II*\0" + b"\xff" * 4000),
    "gzip cut short": _file("cut.mrc.gz", gzip.compress(WHOLE)[:-5000]),
    "no gzip": _file("no.mrc.gz", WHOLE),
    "damaged bzip2": _file("bad.mrc.bz2", bz2.compress(WHOLE)[:200] + b"x" * 2000),
}
"""What a folder may hold besides micrographs, by kind; each is made in a folder and gives its
name."""
ROWS: dict[str, tuple[str, str]] = {
    "a row of no file": ("absent.mrc 1", "absent.mrc"),
    "a row of a folder": ("in 1", "in: not"),
    "a row of no name": (".. 1", "not the name of a micrograph"),
    "a row of an empty name": ("'' 1", "not the name of a micrograph"),
    "a row of no group": ("in/g7.mrc 7", "of optics group '7'"),
    "a row of a group in words": ("in/gx.mrc <NA>", "of optics group '<NA>'"),
    "a row of a group without size": ("in/g2.mrc 2", "g2.mrc"),
    "a row of a slice of a stack": ("000001@in/a_good.mrc 1", "000001@"),
    "a row named twice": ("in/a_good.mrc 1", "never said"),
}
"""Rows of a STAR file, and what is said of them."""
