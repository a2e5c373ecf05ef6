"""Topaz's `.txt`: a tab-separated list of many micrographs, headed `image_name x_coord y_coord [score]`.

Names come without suffix; centres are in pixels of the image that Topaz was given, row 0 the first one of the array.
So images that were scaled down for Topaz need its `--up-scale`, and the rows of a TIFF, which Topaz does not flip,
its `--invert-y`, before its coordinates are those of the micrograph. Scores are log-likelihood ratios.
"""

from pathlib import Path

from gtpick_rt.formats.table import Table
from gtpick_rt.formats.text import centres_and_scores, read_rows

COLUMNS = ("image_name", "x_coord", "y_coord")


def read_topaz(path: Path) -> Table:
    """Read the coordinates of all micrographs listed. Raises UsageError."""
    rows = read_rows(path, "\t", COLUMNS, f"{', '.join(COLUMNS)} and perhaps score, separated by tabs, as of Topaz")
    return Table(*centres_and_scores(path, rows, COLUMNS[1:]), [row["image_name"] for _, row in rows])
