"""The sums of one movie that motion correction writes side by side, with and without dose
weighting: they are one micrograph.
"""

import os
import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from gtpick_rt.reading.info import suffix_of

_SUM = re.compile(r"(?P<weighted>_DW|_dose_?weighted)$|(?P<unweighted>_noDW)$", re.IGNORECASE)
"""What programs append: MotionCor2 and 3 _DW to the weighted sum, cryoSPARC _doseweighted,
RELION _noDW to the other."""


class Sum(NamedTuple):
    """Which sum of which movie a file is, by its name."""

    movie: str
    """Its path without what tells the sums of one movie apart."""
    rank: int
    """Of several, that of the lowest rank is picked: the weighted one, where there is one."""


class LeftOut(NamedTuple):
    """A sum that is not picked, since another one of the same movie is."""

    path: str
    taken: str

    def __str__(self) -> str:
        return f"{self.path} is the same micrograph as {self.taken}, which is taken"


def sum_of(path: Path | str) -> Sum:
    """Tell by the name which sum of which movie a file is."""
    folder, name = os.path.split(str(path))
    bare = name[: len(name) - len(suffix_of(name))]
    found = _SUM.search(bare)
    rank = 1 if found is None else 0 if found["weighted"] else 2
    return Sum(f"{folder}/{bare[: found.start()] if found else bare}", rank)


def one_of_each(paths: Iterable[Path], done: Container[Path] = ()) -> list[LeftOut]:
    """The files that are left out, so that one sum of each movie is picked: one that is `done`
    stays it.
    """
    movies: dict[str, list[tuple[int, str]]] = {}
    for path in paths:
        movie, rank = sum_of(path)
        movies.setdefault(movie, []).append((-1 if path in done else rank, str(path)))
    ranked = (sorted(sums) for sums in movies.values() if len({rank for rank, _ in sums}) > 1)
    return [LeftOut(path, sums[0][1]) for sums in ranked for rank, path in sums if rank > sums[0][0]]


class Sums:
    """Which sum of each movie is taken, of those that have come so far."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[int, str]] = {}
        self._left_out: dict[str, str] = {}  # the sum that was taken instead, by path

    @property
    def left_out(self) -> list[LeftOut]:
        """The sums that are not picked; may be asked in any thread."""
        return [LeftOut(path, taken) for path, taken in list(self._left_out.items())]

    def taken(self, path: str) -> str:
        """The sum that is taken of the movie of `path`: this one, where none was before."""
        movie, rank = sum_of(path)
        return self._taken.setdefault(movie, (rank, path))[1]

    def is_better(self, path: str) -> bool:
        """Whether `path` is to be preferred to the sum that is taken."""
        movie, rank = sum_of(path)
        return rank < self._taken[movie][0]

    def take(self, path: str, instead_of: str) -> None:
        """Take one sum, and leave the other out."""
        movie, rank = sum_of(path)
        self._taken[movie] = (rank, path)
        self._left_out[instead_of] = path

    def forget(self, path: str) -> None:
        """Let go of a file that is gone, or is to be judged anew."""
        movie, rank = sum_of(path)
        self._left_out.pop(path, None)
        if self._taken.get(movie) == (rank, path):
            del self._taken[movie]


def told(left_out: list[LeftOut]) -> str:
    """Say it in a line; there must be some."""
    first = left_out[0]
    more = f", and {len(left_out) - 1} more like it" if len(left_out) > 1 else ""
    return f"left out beside another sum of the same movie: {first}{more}"
