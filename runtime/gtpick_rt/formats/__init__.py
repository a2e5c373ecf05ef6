"""Coordinate files: picks and labels of one micrograph each."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.types import Picks


def read_coordinates(path: Path, diameter_px: float | None = None) -> Picks:
    """Read picks or labels from one file; see `read_coordinate_set`."""
    return read_coordinate_set([path], diameter_px)[0]


def read_coordinate_set(paths: Sequence[Path], diameter_px: float | None = None) -> list[Picks]:
    """Read picks or labels from `.star` files, or `.csv` files headed `x,y[,score]`, one per micrograph.

    Neither holds a diameter, so all get `diameter_px` (1 if None). Without a score column all get 1. Should any score
    lie beyond [0, 1], such as a log-likelihood ratio, each one of the set is replaced by its rank in the set, from
    above 0 to 1: order and ties stay.

    Raises UsageError when a file cannot be read, or holds something else.
    """
    columns = [_read(path) for path in paths]
    scores = np.concatenate([np.zeros(0), *(score for _, score in columns)])
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        distinct, rank = np.unique(scores, return_inverse=True)
        scores = (rank + 1) / len(distinct)
    ends = np.cumsum([len(score) for _, score in columns])[:-1]
    diameter = 1.0 if diameter_px is None else diameter_px
    return [
        Picks(xy.astype(np.float32), np.full(len(xy), diameter, np.float32), score.astype(np.float32))
        for (xy, _), score in zip(columns, np.split(scores, ends), strict=True)
    ]


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(n, 2)` centres and `(n,)` scores of any range."""
    suffix = path.suffix.lower()
    if suffix == ".star":
        from gtpick_rt.formats.star import read_coordinate_columns

        xy, score = read_coordinate_columns(path)
    elif suffix == ".csv":
        xy, score = _read_csv(path)
    else:
        raise UsageError(f"{path}: coordinates are read from .star and .csv files only; convert it")
    if score is None:
        score = np.ones(len(xy))
    if not (np.isfinite(xy).all() and np.isfinite(score).all()):
        raise UsageError(f"{path}: a coordinate or score is missing or not a finite number; correct the file")
    return xy, score


def _read_csv(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a CSV file ({error})") from error
    if not {"x", "y"} <= set(columns):
        raise UsageError(f"{path}: the first line must be x,y or x,y,score")
    try:
        xy = np.array([(float(row["x"]), float(row["y"])) for row in rows]).reshape(-1, 2)
        score = np.array([float(row["score"]) for row in rows]) if "score" in columns else None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: a row lacks a number ({error}); correct the file") from error
    return xy, score
