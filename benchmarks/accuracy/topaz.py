"""Topaz's pretrained detectors on the simulated suite, run as its manual says, and generously.

Nobody documents the scale at which these detectors were trained. RELION, which ships Topaz, bins
until two particle diameters fill the receptive field of 71 px; Topaz's own examples bin further. So
each detector is run at both scales. Picks nearer to each other than the particle's radius are
suppressed, as RELION asks of Topaz. The log-likelihood threshold is Topaz's own lowest default; the
best one is looked for afterwards.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.suite_files import Entry, Suite, by
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.formats.coordinates import read_coordinate_set
from gtpick_rt.types import Picks

DETECTORS = ("resnet16_u64", "resnet8_u64")
"""The larger one of each kind that ships; Topaz picks with the first unless told otherwise."""
PARTICLE_PX = (17, 34)
"""Particle diameters in px to bring the micrographs near to; Topaz bins by whole numbers."""
LOWEST = -6.0


@dataclass(frozen=True)
class Topaz:
    """One way of running one detector."""

    detector: str
    particle_px: int

    @property
    def name(self) -> str:
        """As in tables and file names."""
        return f"{self.detector} at {self.particle_px} px"


WAYS = tuple(Topaz(detector, px) for px in PARTICLE_PX for detector in DETECTORS)


def version(program: Path) -> str:
    """What the program says of itself."""
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def pick(program: Path, suite: Suite, work: Path) -> dict[str, dict[str, Picks]]:
    """Run every way on all micrographs with particles.

    Returns picks by the way's name and the micrograph's file.

    What lies in `work` of an earlier run, on this suite and by this version, is used again.
    """
    folder = work / f"topaz-{version(program)}-{suite.sha256[:12]}"
    picked: dict[str, dict[str, Picks]] = {way.name: {} for way in WAYS}
    for way in WAYS:
        for entries in by(suite.filled, "size").values():  # of one size in px, and so with the same options
            table = folder / way.name.replace(" ", "_") / f"{entries[0].size}.txt"
            if not table.exists():
                extract(program, way, [suite.path(entry) for entry in entries], entries[0].diameter_px, table)
            picked[way.name] |= _read(table, entries)
    return picked


def extract(program: Path, way: Topaz, micrographs: Sequence[Path], diameter_px: float, table: Path) -> None:
    """Preprocess and pick micrographs of one particle diameter; `table` appears when it is whole.

    Binned micrographs are kept beside the folder of `table`, and used again.
    """
    scale = max(1, round(diameter_px / way.particle_px))
    small = table.parent.parent / f"binned_{scale}"
    binned = [small / path.name for path in micrographs]
    missing = [path for path, made in zip(micrographs, binned, strict=True) if not made.exists()]
    if missing:
        subprocess.run([program, "preprocess", "--scale", str(scale), "--destdir", f"{small}/", *missing], check=True)
    table.parent.mkdir(parents=True, exist_ok=True)
    part = table.with_suffix(".part")
    options = {
        "--model": way.detector,
        "--radius": round(diameter_px / 2 / scale),
        "--threshold": LOWEST,
        "--up-scale": scale,
        "--device": -1,
        "--output": part,
    }
    words = [f"{name}={value}" for name, value in options.items()]
    subprocess.run([program, "extract", *words, *binned], check=True)
    part.rename(table)


def read(table: Path, micrographs: Sequence[str], diameter_px: float) -> dict[str, Picks]:
    """Read the picks by the stem of a micrograph; one that the table does not name has none."""
    listed = find_coordinates(table).files
    picks = read_coordinate_set({name: table for name in micrographs if name in listed}, diameter_px).picks
    return {name: picks.get(name, Picks.empty()) for name in micrographs}


def _read(table: Path, entries: list[Entry]) -> dict[str, Picks]:
    found = read(table, [Path(entry.file).stem for entry in entries], entries[0].diameter_px)
    return {entry.file: found[Path(entry.file).stem] for entry in entries}
