"""CSV files headed `x,y[,score[,diameter]]`: centres and sizes in pixels, row 0 the first one
stored.
"""

from pathlib import Path

from gtpick_rt.formats.table import Table
from gtpick_rt.formats.text import centres_and_scores, read_rows
from gtpick_rt.types import Picks


def picks_to_csv(picks: Picks) -> str:
    """Write the picks of one micrograph."""
    rows = zip(picks.xy_px.tolist(), picks.score.tolist(), picks.diameter_px.tolist(), strict=True)
    return "x,y,score,diameter\n" + "".join(f"{x:.2f},{y:.2f},{score:.6f},{size:.2f}\n" for (x, y), score, size in rows)


def read_csv(path: Path) -> Table:
    """Read the coordinates of one micrograph; other columns are passed over. Raises UsageError."""
    rows = read_rows(path, ",", ("x", "y"), "x,y or x,y,score")
    return Table(*centres_and_scores(path, rows, ("x", "y")))
