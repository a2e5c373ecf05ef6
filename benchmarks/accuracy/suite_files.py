"""The frozen simulated suite as suite.py has written it, for those who measure on it."""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mrcfile
import numpy as np

from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.types import Picks

LISTING = "suite.json"
SHAPE = {"small": (1536, 1792), "medium": (1792, 2048), "large": (2048, 2304)}
"""Height and width of the micrographs with small, medium and large particles."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One micrograph of the suite."""

    file: str
    """The MRC file, relative to the suite's folder."""
    specimen: str
    size: str
    snr: float
    coverage: float
    """0 where there are no particles."""
    diameter_A: float
    pixel_size_A: float
    particles: int
    """Whole ones, which the labels list."""
    sha256: str
    """Of pixel size, pixels and labels, whatever the header's other words."""

    @property
    def empty(self) -> bool:
        """Whether the micrograph is one of those without particles."""
        return self.coverage == 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the micrograph."""
        return SHAPE[self.size]

    @property
    def diameter_px(self) -> float:
        """Of the micrograph's own pixels."""
        return self.diameter_A / self.pixel_size_A


@dataclass(frozen=True)
class Suite:
    """A suite on disk."""

    folder: Path
    entries: tuple[Entry, ...]

    @cached_property
    def sha256(self) -> str:
        """One hash over all micrographs and labels."""
        return hashlib.sha256("".join(entry.sha256 for entry in self.entries).encode()).hexdigest()

    @property
    def filled(self) -> list[Entry]:
        """Those with particles."""
        return [entry for entry in self.entries if not entry.empty]

    def path(self, entry: Entry) -> Path:
        """The MRC file of an entry."""
        return self.folder / entry.file

    def labels(self, entry: Entry) -> Picks:
        """The particles to pick."""
        return read_coordinates(self.path(entry).with_suffix(".star"), entry.diameter_px)


def by(entries: Iterable[Entry], field: str) -> dict[str, list[Entry]]:
    """Group entries by a field, in the order met."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(getattr(entry, field), []).append(entry)
    return groups


def load_suite(folder: Path) -> Suite:
    """Read `folder`/suite.json and check that every file is as it says.

    Ends the program where one is not.
    """
    listing = folder / LISTING
    if not listing.exists():
        sys.exit(f"no {listing}: write the suite first, with python benchmarks/accuracy/suite.py {folder}")
    suite = Suite(folder, tuple(Entry(**entry) for entry in json.loads(listing.read_text())["micrographs"]))
    for entry in suite.entries:
        if fingerprint(suite.path(entry)) != entry.sha256:
            sys.exit(f"{suite.path(entry)}: not as {listing} says; write the suite again")
    return suite


def fingerprint(path: Path) -> str:
    """Hash of what a picker is given and is judged by: of pixels as they are in the file.

    Headers carry dates, and so cannot be part of it.
    """
    with mrcfile.open(path) as mrc:
        digest = hashlib.sha256(f"{float(mrc.voxel_size.x):.5f} {mrc.data.shape}".encode())
        digest.update(np.ascontiguousarray(mrc.data, "<f4").tobytes())
    digest.update(path.with_suffix(".star").read_bytes())
    digest.update(path.with_name(f"{path.stem}_negatives.star").read_bytes())
    return digest.hexdigest()
