"""F1 on the frozen simulated suite beside Topaz's pretrained detectors, by SNR and particle size.

    python benchmarks/accuracy/suite.py SUITE --structures DIR
    python benchmarks/accuracy/topaz_comparison.py SUITE --topaz PROGRAM --work WORK

Ours is picked by the public command with the specimen's true diameter, and judged at the model's
one default threshold; beside it at the thresholds that the command finds for each specimen. Topaz
is given the best of its detectors and scales, and the best threshold, anew in every cell of the
table. What it is not given is this simulator: ours was trained on its images of other particles,
Topaz on real micrographs. Both are judged on whole particles: a pick or label whose circle reaches
over the border does not count.

Beside it: what the best threshold of each specimen would bring us; the F1 of a lattice of picks
laid without looking, for where particles are dense a best threshold never does much worse than to
pick everything; and the picks on micrographs that hold no particle. Topaz's picks are kept in WORK
and used again; without --topaz its figures of the last result stay, if that is of the same suite.
Writes results/topaz_comparison.json and .png.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from benchmarks.accuracy import topaz
from benchmarks.accuracy.comparison_shown import RULE, draw, show
from benchmarks.accuracy.suite import SNR, SPECIMENS
from benchmarks.accuracy.suite_files import Entry, Suite, by, load_suite
from benchmarks.shared.common import circumstances, pick_command, result_path, save
from benchmarks.shared.plots import plot
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.picker import whole
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.evaluate.figures import precision_recall
from gtpick_rt.models.files import resolve_model
from gtpick_rt.output.commit import load_detections
from gtpick_rt.types import Picks

Picked = dict[str, Picks]
"""All detections by the micrograph's file, down to the lowest score kept."""


class Ours(NamedTuple):
    """What the model found, and the threshold from which it calls that picks."""

    picked: Picked
    threshold: float
    model: str
    found: dict[str, float]
    """The thresholds that picking finds, by specimen."""


def pick_ours(suite: Suite, out: Path, model: str | None) -> Ours:
    """Pick every specimen's folder by the public command; whatever is in `out` is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    picked: Picked = {}
    found: dict[str, float] = {}
    summary: dict[str, Any] = {}
    for name, entries in by(suite.entries, "specimen").items():
        target = out / name
        subprocess.run(pick_command([suite.folder / name], target, model, entries[0].diameter_A), check=True)
        picked |= {e.file: load_detections(target, PurePosixPath(Path(e.file).stem)) for e in entries}
        summary = json.loads((target / "summary.json").read_text())
        found[name] = summary["parameters"]["threshold"]
    spec = OnnxRuntimeCpu().open(resolve_model(model))
    return Ours(picked, spec.threshold, summary["model"], found)


def draw_curve(suite: Suite, entries: list[Entry], picked: Picked) -> Curve:
    """The precision-recall curve over micrographs of one size."""
    diameter = entries[0].diameter_px
    pairs = []
    for entry in entries:
        pairs.append((whole(picked[entry.file], entry.shape, diameter), suite.labels(entry)))
    return curve(pairs, diameter / 3)


def at(drawn: Curve, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 of the picks of that score or more."""
    taken = drawn.score >= np.float32(threshold)
    figures = precision_recall(int(drawn.right[taken].sum()), int(taken.sum()), drawn.labels)
    return dict(zip(("precision", "recall", "f1"), figures, strict=True))


def compare(suite: Suite, entries: list[Entry], ours: Ours) -> dict[str, Any]:
    """Our figures over some micrographs of one size, at the default and at the best threshold."""
    drawn = draw_curve(suite, entries, ours.picked)
    default, (best, threshold) = at(drawn, ours.threshold), drawn.best()
    kept = {e.file: ours.picked[e.file] for e in entries}
    kept = {e.file: kept[e.file][kept[e.file].score >= ours.found[e.specimen]] for e in entries}
    return {
        "particles": drawn.labels,
        **default,
        "found_f1": at(draw_curve(suite, entries, kept), -np.inf)["f1"],
        "average_precision": drawn.average_precision,
        "best_f1": best,
        "best_threshold": threshold,
        "gap": best - default["f1"],
    }


def best_topaz(suite: Suite, entries: list[Entry], ways: dict[str, Picked]) -> dict[str, Any]:
    """Topaz's highest F1 over some micrographs of one size, and how it comes about."""
    found = {way: draw_curve(suite, entries, picked).best() for way, picked in ways.items()}
    way = max(found, key=lambda name: found[name][0])
    f1, probability = found[way]
    return {
        "topaz_f1": f1,
        "topaz_way": way,
        "topaz_threshold": float(np.log(probability / (1 - probability))) if 0 < probability < 1 else None,
        "topaz_all": {name: value for name, (value, _) in found.items()},
    }


def lattice(entry: Entry) -> Picks:
    """Touching discs in hexagonal packing: what can be picked without looking."""
    height, width = entry.shape
    pitch = entry.diameter_px
    rows = np.arange(pitch / 2, height, pitch * np.sqrt(0.75))
    columns = np.arange(pitch / 2, width, pitch)
    x = columns + np.where(np.arange(len(rows)) % 2, pitch / 2, 0)[:, None]
    xy = np.column_stack((x.ravel(), np.repeat(rows, len(columns)))).astype(np.float32)
    return Picks(xy, np.full(len(xy), pitch, np.float32), np.ones(len(xy), np.float32))


def earlier_topaz(suite: Suite) -> tuple[str | None, dict[tuple[str, float], dict[str, Any]]]:
    """Topaz's version, and its figures of the last result by size and SNR, if of this suite."""
    path = result_path(__file__, ".json")
    result = json.loads(path.read_text()) if path.exists() else {}
    if result.get("suite") != suite.sha256 or not result["topaz"]:
        return None, {}
    cells = {(c["size"], c["snr"]): {k: v for k, v in c.items() if k.startswith("topaz")} for c in result["cells"]}
    return result["topaz"], cells


def measure(
    suite: Suite, ours: Ours, ways: dict[str, Picked], earlier: Mapping[tuple[str, float], dict[str, Any]]
) -> dict[str, Any]:
    """Every figure of the benchmark; Topaz's are those of `ways`, or of an `earlier` result."""
    cells = []
    for size in SPECIMENS:
        for snr in SNR:
            entries = [entry for entry in suite.filled if entry.size == size and entry.snr == snr]
            cell = {"size": size, "snr": snr, "micrographs": len(entries), **compare(suite, entries, ours)}
            cell["chance_f1"] = draw_curve(suite, entries, {e.file: lattice(e) for e in entries}).best()[0]
            cell |= best_topaz(suite, entries, ways) if ways else earlier.get((size, snr), {})
            if "topaz_f1" in cell:
                cell["ahead"] = cell["f1"] - cell["topaz_f1"]
            cells.append(cell)
    specimens = []
    for name, entries in by(suite.filled, "specimen").items():
        each = {f"{entry.snr:g}": compare(suite, [entry], ours)["gap"] for entry in entries}
        row = {"specimen": name, "diameter_A": entries[0].diameter_A, **compare(suite, entries, ours)}
        specimens.append({**row, "gap_by_snr": each})
    empties = []
    for entry in (entry for entry in suite.entries if entry.empty):
        false = int((ours.picked[entry.file].score >= np.float32(ours.threshold)).sum())
        kind = Path(entry.file).name.partition("_")[0]
        empties.append({"micrograph": entry.file, "kind": kind, "snr": entry.snr, "false_picks": false})
    return {
        "cells": cells,
        "specimens": specimens,
        "false_picks_per_empty_micrograph": float(np.mean([row["false_picks"] for row in empties])),
        "empties": empties,
    }


def main() -> None:
    """Pick, compare, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="folder that benchmarks/accuracy/suite.py wrote")
    parser.add_argument("--topaz", type=Path, help="the topaz program, of an environment of its own")
    parser.add_argument("--work", type=Path, help="keep picks here, and use again those of Topaz")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    suite = load_suite(arguments.suite)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        ours = pick_ours(suite, work / "ours", arguments.model)
        ways = topaz.pick(arguments.topaz, suite, work) if arguments.topaz else {}
    version, earlier = (topaz.version(arguments.topaz), {}) if arguments.topaz else earlier_topaz(suite)
    result = measure(suite, ours, ways, earlier)
    show(result)
    if version is None:
        print("Topaz was not run: name its program with --topaz")
    about = {
        "model": ours.model,
        "threshold": ours.threshold,
        "suite": suite.sha256,
        "found": ours.found,
        "topaz": version,
        "rule": RULE,
    }
    save(__file__, circumstances(sys.argv) | about | result)
    plot(result_path(__file__, ".json"), draw)


if __name__ == "__main__":
    main()
