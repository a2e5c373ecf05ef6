"""JSON for the software of a facility: what was found on one micrograph, and what is known of it.

Centres and sizes are in pixels, row 0 the first one stored in the file that `path` names.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.encoding import decode
from gtpick_rt.formats.table import Table, sizes_in
from gtpick_rt.types import Picks


def picks_to_json(picks: Picks, about: Mapping[str, object]) -> str:
    """Write the picks of one micrograph after what is to be said about it."""
    x, y = picks.xy_px.astype(np.float64).round(2).T.tolist()
    sizes, score = (
        picks.diameter_px.astype(np.float64).round(2).tolist(),
        picks.score.astype(np.float64).round(6).tolist(),
    )
    return json.dumps({**about, "x_px": x, "y_px": y, "diameter_px": sizes, "score": score}, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Table:
    """Read the picks of one micrograph. Raises UsageError."""
    try:
        found = json.loads(decode(path.read_bytes()))
        x, y, score = (np.array(found[name], np.float64) for name in ("x_px", "y_px", "score"))
        sizes = sizes_in([found.get("pixel_size_A")])
        return Table(np.column_stack([x, y]).reshape(-1, 2), score.reshape(len(x)), pixel_sizes_A=sizes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON of gtpick-rt ({error}); convert the picks again") from error
