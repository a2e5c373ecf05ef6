"""Topaz's `.txt`: a tab-separated list of many micrographs, headed `image_name x_coord y_coord
[score]`.

Names come without suffix; centres are in pixels of the image that Topaz was given, row 0 the first
one of the array. So images that were scaled down for Topaz need its `--up-scale`, and the rows of a
TIFF, which Topaz does not flip, its `--invert-y`, before its coordinates are those of the
micrograph. Scores are log-likelihood ratios.
"""

import re
from pathlib import Path

import numpy as np

from gtpick_rt.formats.table import Table
from gtpick_rt.formats.text import centres_and_scores, read_rows
from gtpick_rt.types import Picks

COLUMNS = ("image_name", "x_coord", "y_coord")
HEADER = "\t".join((*COLUMNS, "score")) + "\n"
_BARE = re.compile(r"[^\s\"][^\t\"]*")


def topaz_rows(name: str, picks: Picks) -> str:
    """Write the rows of one micrograph, which Topaz knows by the bare `name` of its file; as Topaz,
    in whole pixels.
    """
    word = name if _BARE.fullmatch(name) else '"' + name.replace('"', '""') + '"'
    centres = np.rint(picks.xy_px).astype(int).tolist()
    return "".join(
        f"{word}\t{x}\t{y}\t{score:.6f}\n" for (x, y), score in zip(centres, picks.score.tolist(), strict=True)
    )


def read_topaz(path: Path) -> Table:
    """Read the coordinates of all micrographs listed. Raises UsageError."""
    rows = read_rows(path, "\t", COLUMNS, f"{', '.join(COLUMNS)} and perhaps score, separated by tabs, as of Topaz")
    return Table(*centres_and_scores(path, rows, COLUMNS[1:]), [row["image_name"] for _, row in rows])
