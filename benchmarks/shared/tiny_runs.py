"""Runs as small as can be, to be broken by the hundred, and what must hold of their output folders.

The micrographs are tiny and the backend has no network.
"""

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import mrcfile
import numpy as np
from gemmi import cif

from benchmarks.shared.common import circumstances, save
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import GtpickError
from gtpick_rt.formats.star import read_record, read_star
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.commit import load_detections
from gtpick_rt.output.layout import STAR_SUFFIX, STATE_FOLDER, index_path, list_path, log_path, star_path, summary_path
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import FloatArray

SIDE = 64
DIAMETER_A = 48.0
PIXEL_SIZE_A = 2.0
SPEC = ModelSpec(
    name="fake",
    version="1",
    tile_px=SIDE,
    margin_px=8,
    queries=4,
    diameter_px=24,
    diameter_range_px=(10, 36),
    highpass_px=33,
    clip=6,
    merge_distance=0.5,
    threshold=0.4,
    floor=0.05,
)
BOXES = np.array([[20, 20, 24], [44, 20, 24], [32, 44, 24], [1, 1, 24]], np.float32)
SCORES = np.array([0.9, 0.5, 0.2, 0.0], np.float32)


CORES = 12
"""Of which a run that has a GPU is made to think, for threads that write side by side."""


def fake_picker(on_cpu: bool = True) -> Picker:
    """Finds three particles wherever it looks, two of them above the threshold."""

    def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.tile(SCORES, (len(tiles), 1)), np.tile(BOXES, (len(tiles), 1, 1))

    return Picker(ScriptedBackend(script, on_cpu=on_cpu), SPEC, DIAMETER_A)


def write_micrograph(path: Path) -> Path:
    """Write an MRC file of 64 x 64 pixels of noise, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32))
        mrc.voxel_size = PIXEL_SIZE_A
    return path


def job_of(path: Path) -> Job:
    """The job of a micrograph that lies in a searched folder."""
    return Job(path, PurePosixPath(path.stem), str(path))


def flaws_of(out: Path) -> list[str]:
    """What is wrong with an output folder whose writer may have been killed.

    It is a sentence for each broken promise.
    """
    flaws = []
    for path in out.rglob("*.npz"):
        try:
            load_detections(out, PurePosixPath(path.relative_to(out / STATE_FOLDER / "detections")).with_suffix(""))
        except GtpickError as error:
            flaws.append(str(error))
    for path in (*out.rglob(f"*{STAR_SUFFIX}"), list_path(out), summary_path(out)):
        if path.exists():
            flaws += _flaws_of_file(path)
    return flaws


def _flaws_of_file(path: Path) -> list[str]:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.name.endswith(STAR_SUFFIX):
            promised, there = record_of(path).picks, len(read_star(path).xy_px)
            if promised != there:
                return [f"{path}: {there} rows, {promised} promised"]
        else:
            absent = [star for star in listed_in(path) if not Path(star).exists()]
            return [f"{path}: lists {star}, which is absent" for star in absent]
    except (GtpickError, OSError, ValueError, KeyError, TypeError, RuntimeError, IndexError) as error:
        return [f"{path}: damaged ({error})"]
    return []


def record_of(star: Path) -> MicrographRecord:
    """The record in a STAR file of picks.

    Raises ValueError, KeyError or TypeError where it is damaged.
    """
    return MicrographRecord(**json.loads(read_record(star))["record"])


def models_of(out: Path) -> dict[str, str]:
    """The model that has picked each micrograph, by its stem."""
    return {
        stem: json.loads(read_record(star_path(out, PurePosixPath(stem))))["settings"]["model"].split()[0]
        for stem in stems_done(out)
    }


def listed_in(autopick: Path) -> list[str]:
    """The coordinate files that `autopick.star` lists."""
    block = cif.read(str(autopick)).sole_block()
    return [cif.as_string(row[1]) for row in block.find("_rlnMicrograph", ["Name", "Coordinates"])]


def stems_done(out: Path) -> set[str]:
    """The stems of all micrographs that are committed."""
    return {
        str(path.relative_to(out)).removesuffix(STAR_SUFFIX)
        for path in out.rglob(f"*{STAR_SUFFIX}")
        if not path.name.startswith(".")
    }


def flaws_at_end(out: Path, stems: Iterable[str], repeated: bool = False) -> list[str]:
    """What is wrong with the output folder of a run that should have picked just `stems`.

    Where some were `repeated`, which of the times is noted does not matter.
    """
    stems, flaws = set(stems), flaws_of(out)
    if flaws:
        return flaws
    done = stems_done(out)
    flaws += [f"{stem}: lost" for stem in sorted(stems - done)]
    flaws += [f"{stem}: picked though nobody asked" for stem in sorted(done - stems)]
    records = {stem: record_of(star_path(out, PurePosixPath(stem))) for stem in done}
    for stem, record in records.items():
        if len(load_detections(out, PurePosixPath(stem))) != record.detections:
            flaws.append(f"{stem}: its detections are not those of its picks")
    with sqlite3.connect(index_path(out)) as index:
        indexed = {stem: MicrographRecord(**json.loads(text)) for stem, text in index.execute(_ROWS)}
    if repeated:
        indexed, records = (
            {stem: replace(each, seconds=0) for stem, each in all_.items()} for all_ in (indexed, records)
        )
    if indexed != records:
        flaws.append("the index does not say what the STAR files say")
    rows = listed_in(list_path(out))
    if sorted(rows) != sorted(str(star_path(out, PurePosixPath(stem))) for stem in stems):
        flaws.append(f"autopick.star lists {len(rows)} micrographs, not the {len(stems)} that are done")
    summary = json.loads(summary_path(out).read_text())
    if {record["stem"] for record in summary["micrographs"]} != stems:
        flaws.append("summary.json does not list what is done")
    flaws += [f"{path}: left behind" for path in out.rglob(".*.tmp")]
    return flaws + _repeated_in_log(out)


_ROWS = "SELECT stem, record FROM picked"


def _repeated_in_log(out: Path) -> list[str]:
    picked = []
    log = log_path(out)
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        with contextlib.suppress(ValueError):  # a power cut may tear a line: the log is not synced
            entry = json.loads(line)
            picked += [entry["stem"]] if entry["state"] == "picked" else []
    return [f"{stem}: picked {times} times" for stem, times in Counter(picked).items() if times > 1]


def report(script: str, description: str | None, option: str, run_all: Callable[[Path, int, int], Any]) -> None:
    """Run `run_all` in an empty folder, and print and save the dataclass of its figures.

    How often it does its work is said by `option` of the command line. Exits with code 1 when there
    are `flaws` in it.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(option, dest="times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = run_all(Path(folder).resolve(), options.times, options.seed)
    result = asdict(tally) | {"seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(result, indent=1))
    if not options.no_save:
        save(script, circumstances(["python", *sys.argv]) | result)
    if tally.flaws:
        sys.exit("promises were broken")
