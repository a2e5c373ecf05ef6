"""cryoSPARC's `.cs`: a NumPy file of one record per particle, of many micrographs.

Centres are fractions of the micrograph's sides, of which `location/micrograph_shape` has the rows
first. They are those in the file that the record names: the y fraction counts from the first row
stored there. cryoSPARC's own patch motion correction stores the rows of its micrographs in the
opposite order to MotionCor's and RELION's: for picks of the one to be used on the other, the rows
are to be flipped. What joins a particle to a micrograph there is the micrograph's uid.
"""

import hashlib
import io
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.table import Table, sizes_in
from gtpick_rt.types import Picks

NEEDED = ("micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac")
SCORE = "pick_stats/ncc_score"
PIXEL_SIZE = "location/micrograph_psize_A"
MAX_HEADER = 100_000
"""Bytes; a particle set of all jobs has some hundred columns."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""Between the numbers of particles: odd, so that all of a micrograph differ, and large, so that
those of two do."""


def cs_dtype(path_bytes: int) -> np.dtype[np.void]:
    """The record of a particle, as cryoSPARC's tools save it, where no path is longer."""
    return np.dtype(
        [
            ("uid", "<u8"),
            ("location/micrograph_uid", "<u8"),
            ("location/exp_group_id", "<u4"),
            ("location/micrograph_path", f"S{max(path_bytes, 1)}"),
            ("location/micrograph_shape", "<u4", (2,)),
            ("location/micrograph_psize_A", "<f4"),
            ("location/center_x_frac", "<f4"),
            ("location/center_y_frac", "<f4"),
            ("location/min_dist_A", "<f4"),
            ("pick_stats/ncc_score", "<f4"),
            ("pick_stats/power", "<f4"),
        ]
    )


def cs_header(dtype: np.dtype[np.void], count: int) -> bytes:
    """What stands before the records of `count` particles."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": (count,)})
    return buffer.getvalue()


def cs_uid(stem: str) -> np.uint64:
    """The number of a micrograph, always the same for the same stem."""
    return np.frombuffer(hashlib.blake2b(stem.encode(), digest_size=8).digest(), "<u8")[0]


def cs_rows(
    picks: Picks,
    index: NDArray[np.intp],
    dtype: np.dtype[np.void],
    *,
    stem: str,
    micrograph_uid: int | None,
    group: int | None,
    path: str,
    shape: tuple[int, int],
    pixel_size_A: float,
    diameter_A: float,
    flip_y: bool,
) -> bytes:
    """Write the records of one micrograph.

    Args:
        picks: in pixels of the micrograph.
        index: `(n,)` places of the picks among all detections; a detection is numbered alike at
            every threshold.
        dtype: from `cs_dtype`.
        stem: gives the numbers of particles, and the micrograph's where cryoSPARC has none.
        micrograph_uid: cryoSPARC's number of the exposure, if it has one.
        group: cryoSPARC's number of the exposure group; 1 where it is not known.
        path: of the micrograph.
        shape: `(h, w)` of the micrograph.
        pixel_size_A: of the micrograph.
        diameter_A: of the particle, for the distance that picks keep.
        flip_y: count rows from the last one stored.

    """
    records = np.zeros(len(picks), dtype)
    x, y = picks.xy_px.astype(np.float64).T
    records["uid"] = cs_uid(stem) + (index.astype(np.uint64) + np.uint64(1)) * _STRIDE
    records["location/micrograph_uid"] = cs_uid(stem) if micrograph_uid is None else micrograph_uid
    records["location/exp_group_id"] = 1 if group is None else group
    records["location/micrograph_path"] = path.encode()
    records["location/micrograph_shape"] = shape
    records["location/micrograph_psize_A"] = pixel_size_A
    records["location/center_x_frac"] = x / shape[1]
    records["location/center_y_frac"] = (shape[0] - 1 - y if flip_y else y) / shape[0]
    records["location/min_dist_A"] = diameter_A
    records[SCORE] = records["pick_stats/power"] = picks.score  # its pick inspector wants both
    return records.tobytes()


def read_cs(path: Path) -> Table:
    """Read the locations of all particles; the score is their `ncc_score`. Raises UsageError."""
    records = read_records(path)
    fields = records.dtype.names or ()
    missing = [name for name in NEEDED if f"location/{name}" not in fields]
    if missing:
        raise UsageError(
            f"{path}: has no location/{missing[0]}; give the .cs file that has locations, perhaps the passthrough one"
        )
    height_width = records["location/micrograph_shape"]
    if height_width.shape != (len(records), 2):
        raise UsageError(f"{path}: location/micrograph_shape is not two numbers each; give a .cs file of cryoSPARC")
    names = records["location/micrograph_path"]
    try:
        x = records["location/center_x_frac"].astype(np.float64) * height_width[:, 1]
        y = records["location/center_y_frac"].astype(np.float64) * height_width[:, 0]
        score = records[SCORE].astype(np.float64) if SCORE in fields else None
        paths = np.char.decode(names, "utf-8", "surrogateescape") if names.dtype.kind == "S" else names.astype(str)
        sizes = sizes_in(np.unique(records[PIXEL_SIZE])) if PIXEL_SIZE in fields else ()
        return Table(np.column_stack([x, y]), score, [path.removeprefix(">") for path in paths.tolist()], sizes)
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: its columns are not those of locations ({error}); give a .cs file of cryoSPARC"
        ) from error


def read_records(path: Path) -> NDArray[Any]:
    """Read the `(n,)` records of a `.cs` file in NumPy's format; nothing is unpickled.

    Raises UsageError.
    """
    try:
        with path.open("rb") as file:
            _check_length(file)
            records = np.lib.format.read_array(file, allow_pickle=False, max_header_size=MAX_HEADER)
    except Exception as error:  # damaged headers make NumPy raise errors of many kinds
        raise UsageError(
            f"{path}: cannot be read as a cryoSPARC dataset in NumPy's format ({error}); "
            "save it again with cryosparc-tools: Dataset.load(...).save(...)"
        ) from error
    if records.ndim != 1:
        raise UsageError(f"{path}: not a list of records; give a .cs file as cryoSPARC writes it")
    return records


def _check_length(file: BinaryIO) -> None:
    """Raise ValueError when the file is shorter than its header says, before memory is taken on its
    word.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = _HEADERS[version](file, max_header_size=MAX_HEADER)
    if math.prod(shape) * max(dtype.itemsize, 1) > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("cut short, or still being written")
    file.seek(0)
