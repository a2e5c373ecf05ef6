"""Coordinate files, whoever wrote them: picks and labels in 0-based pixel centres of the
micrograph, row 0 first.

    .star        RELION's and others': centres; with _rlnMicrographName, of many micrographs
    .csv         x,y[,score]: centres
    .box .cbox   EMAN's and crYOLO's: boxes by their corner
    .txt         Topaz's list: centres, many micrographs
    .cs          cryoSPARC's: fractions of the sides, many micrographs
    .json        our own, for other software: centres

Every format has a module of its own, which says whose convention it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.box import read_box
from gtpick_rt.formats.cbox import read_cbox
from gtpick_rt.formats.comma import read_csv
from gtpick_rt.formats.cryosparc import read_cs
from gtpick_rt.formats.facility import read_json
from gtpick_rt.formats.star import read_star
from gtpick_rt.formats.table import Table, micrograph_name
from gtpick_rt.formats.topaz import read_topaz
from gtpick_rt.types import Picks

READERS: dict[str, Callable[[Path], Table]] = {
    ".star": read_star,
    ".csv": read_csv,
    ".box": read_box,
    ".cbox": read_cbox,
    ".txt": read_topaz,
    ".cs": read_cs,
    ".json": read_json,
}
TableReader = Callable[[Path], Table]
"""As `read_table`, which may remember what it has read: lists of a million rows take seconds."""
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]
"""`(n, 2)` centres and `(n,)` scores of any range, of one micrograph."""
Read = dict[str, Rows | UsageError]
"""The same of several, by name; or what is wrong with the rows of one."""


@dataclass(frozen=True)
class CoordinateSet:
    """Picks or labels of several micrographs."""

    picks: dict[str, Picks]
    """By the name of the micrograph."""
    log_odds: bool
    """Whether the files have log-odds as scores; `picks` have the probabilities that these stand
    for."""

    def score_of(self, value: float) -> float:
        """Convert a score as the files have it, such as a threshold, into one as `picks`
        have it.
        """
        return float(_probability(np.array(value))) if self.log_odds else value


def read_coordinates(path: Path, diameter_px: float | None = None) -> Picks:
    """Read the picks or labels of one micrograph.

    Files hold no particle diameter (that of a box is the box's), so all get `diameter_px`, or 1.
    Scores are treated as in `read_coordinate_set`.

    Raises UsageError when the file cannot be read, holds something else, or lists several
    micrographs.
    """
    micrographs = _read(path, read_table)
    if len(micrographs) > 1:
        raise UsageError(f"{path}: lists {len(micrographs)} micrographs; give a file of one micrograph")
    return _to_set({"": _choose(path, micrographs, "")}, diameter_px).picks.popitem()[1]


def read_table(path: Path) -> Table:
    """Read a coordinate file, whatever its format. Raises UsageError when that cannot be done."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: coordinates are read from {', '.join(READERS)} files only; convert it")
    return reader(path)


def read_coordinate_set(
    files: Mapping[str, Path],
    diameter_px: float | None = None,
    faults: dict[str, str] | None = None,
    read_file: TableReader = read_table,
) -> CoordinateSet:
    """Read picks or labels of several micrographs, given by their names; one file may be of many.

    Without scores all get 1. Should any score of the set lie beyond [0, 1], all are taken for
    log-odds, which Topaz's are, and replaced by the probability that they stand for, 1 / (1 +
    exp(-score)): order stays, though scores above about 17 become equal. The figures of merit of
    RELION's own pickers are not probabilities by this, but keep their order too.

    Raises UsageError when a file cannot be read, or holds something else; where `faults` is given,
    it takes why, by the name of the micrograph, and the others are read.
    """
    read = {path: _attempt(path, read_file) for path in set(files.values())}
    chosen = dict[str, Rows]()
    for name, path in files.items():
        try:
            chosen[name] = _choose(path, read[path], name)
        except UsageError as error:
            if faults is None:
                raise
            faults[name] = str(error)
    return _to_set(chosen, diameter_px)


def _attempt(path: Path, read_file: TableReader) -> Read | UsageError:
    """What a file has, or why it cannot be read."""
    try:
        return _read(path, read_file)
    except UsageError as error:
        return error


def _read(path: Path, read_file: TableReader) -> Read:
    """Read what a file has on each micrograph, by name; or what is wrong with its rows."""
    table = read_file(path)
    score = np.ones(len(table.xy_px)) if table.score is None else table.score
    bad = ~((np.abs(table.xy_px) < np.finfo(np.float32).max).all(1) & np.isfinite(score))
    listed = [path.stem] * len(score) if table.micrograph is None else table.micrograph
    names, index = np.unique([micrograph_name(text) for text in listed], return_inverse=True)
    read: Read = {micrograph_name(path.stem): _nothing()} if table.micrograph is None else {}
    for i, name in enumerate(names):
        of = index == i
        wrong = np.flatnonzero(of & bad)
        if len(wrong):
            row = f"{path}: in row {wrong[0] + 1}"
            read[str(name)] = UsageError(f"{row} a coordinate or score is missing or not a finite number; correct it")
        else:
            read[str(name)] = table.xy_px[of], score[of]
    return read


def _choose(path: Path, micrographs: Read | UsageError, name: str) -> Rows:
    """Take the only micrograph of a file, whatever it is called, or the one of that name.

    Raises UsageError.
    """
    if isinstance(micrographs, UsageError):
        raise micrographs
    if len(micrographs) > 1 and name not in micrographs:
        raise UsageError(f"{path}: lists {len(micrographs)} micrographs, none named {name!r}; name this file itself")
    found = micrographs.get(name) or next(iter(micrographs.values()), _nothing())
    if isinstance(found, UsageError):
        raise found
    return found


def _to_set(micrographs: Mapping[str, Rows], diameter_px: float | None) -> CoordinateSet:
    log_odds = any(((score < 0) | (score > 1)).any() for _, score in micrographs.values())
    diameter = 1.0 if diameter_px is None else diameter_px
    picks = {
        name: Picks(
            xy.astype(np.float32),
            np.full(len(xy), diameter, np.float32),
            (_probability(score) if log_odds else score).astype(np.float32),
        )
        for name, (xy, score) in micrographs.items()
    }
    return CoordinateSet(picks, log_odds)


def _probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -log_odds))


def _nothing() -> Rows:
    return np.zeros((0, 2)), np.zeros(0)
