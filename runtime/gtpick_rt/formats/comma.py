"""CSV files headed `x,y[,score]`: centres, in pixels, row 0 the first one stored."""

from pathlib import Path

from gtpick_rt.formats.table import Table
from gtpick_rt.formats.text import centres_and_scores, read_rows


def read_csv(path: Path) -> Table:
    """Read the coordinates of one micrograph; other columns are passed over. Raises UsageError."""
    rows = read_rows(path, ",", ("x", "y"), "x,y or x,y,score")
    return Table(*centres_and_scores(path, rows, ("x", "y")))
