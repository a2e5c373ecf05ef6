"""cryoSPARC's `.cs`: a NumPy file of one record per particle, of many micrographs.

Centres are fractions of the micrograph's sides, of which `location/micrograph_shape` has the rows first. They are read
for the file that cryoSPARC names: its y fraction counts from the first row stored there.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.table import Table

NEEDED = ("micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac")
SCORE = "pick_stats/ncc_score"
MAX_HEADER = 100_000
"""Bytes; a particle set of all jobs has some hundred columns."""


def read_cs(path: Path) -> Table:
    """Read the locations of all particles; the score is their `ncc_score`. Raises UsageError."""
    records = _records(path)
    fields = records.dtype.names or ()
    missing = [name for name in NEEDED if f"location/{name}" not in fields]
    if missing:
        raise UsageError(
            f"{path}: has no location/{missing[0]}; give the .cs file that has locations, perhaps the passthrough one"
        )
    height_width = records["location/micrograph_shape"]
    if height_width.shape != (len(records), 2):
        raise UsageError(f"{path}: location/micrograph_shape is not two numbers each; give a .cs file of cryoSPARC")
    x = records["location/center_x_frac"] * height_width[:, 1]
    y = records["location/center_y_frac"] * height_width[:, 0]
    names = records["location/micrograph_path"]
    return Table(
        np.column_stack([x, y]).astype(np.float64),
        records[SCORE].astype(np.float64) if SCORE in fields else None,
        (np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names).tolist(),
    )


def _records(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            records = np.lib.format.read_array(file, allow_pickle=False, max_header_size=MAX_HEADER)
    except (OSError, ValueError, MemoryError) as error:
        raise UsageError(
            f"{path}: cannot be read as a cryoSPARC dataset in NumPy's format ({error}); "
            "save it again with cryosparc-tools: Dataset.load(...).save(...)"
        ) from error
    if records.ndim != 1:
        raise UsageError(f"{path}: not a list of records; give a .cs file as cryoSPARC writes it")
    return records
