"""Coordinate files: picks and labels of one micrograph each."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.errors import UsageError
from gtpick_rt.types import Picks


def read_coordinates(path: Path, diameter_px: float | None = None) -> Picks:
    """Read picks or labels from a `.star` file, or a `.csv` file headed `x,y[,score]`.

    Neither holds a diameter, so all get `diameter_px` (1 if None). Without a score column all get 1. Scores beyond
    [0, 1], such as log-likelihood ratios, are passed through a logistic function: their order stays.

    Raises UsageError when the file cannot be read, or holds something else.
    """
    suffix = path.suffix.lower()
    if suffix == ".star":
        from gtpick_rt.formats.star import read_coordinate_columns

        xy, score = read_coordinate_columns(path)
    elif suffix == ".csv":
        xy, score = _read_csv(path)
    else:
        raise UsageError(f"{path}: coordinates are read from .star and .csv files only; convert it")
    n = len(xy)
    if score is None:
        score = np.ones(n)
    if not (np.isfinite(xy).all() and np.isfinite(score).all()):
        raise UsageError(f"{path}: a coordinate or score is missing or not a finite number; correct the file")
    if n and (score.min() < 0 or score.max() > 1):
        score = 0.5 * (1 + np.tanh(0.5 * score))  # the logistic function, without overflow
    diameter = np.full(n, 1.0 if diameter_px is None else diameter_px, np.float32)
    return Picks(xy.astype(np.float32), diameter, score.astype(np.float32))


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
