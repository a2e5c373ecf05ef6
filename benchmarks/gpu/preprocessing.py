"""Does preprocessing as a graph give what the processor gives, and the same picks, on real images?

    python benchmarks/gpu/preprocessing.py WORK/real [--micrographs 3]

`WORK/real` is the folder that accuracy/prepare_real.py writes. The graph runs in ONNX Runtime on
the CPU, on pixels of float32 and on the same in float16, beside NumPy; on so many micrographs of
each set, or all. Both working images are picked. The same detections are those with centres within
one hundredth of a working pixel and scores within 0.001. Then both are timed in turn on one core.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.shared.common import circumstances, save
from gtpick_rt import Micrograph, Picker, read_micrograph
from gtpick_rt.backends.graphs import OnnxRuntimeGraphs
from gtpick_rt.detection.graph import GraphPreparer
from gtpick_rt.detection.preprocess import NumpyPreparer, Preparer
from gtpick_rt.models.files import PREPROCESSING
from gtpick_rt.proof.graphs import distance
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.proof.preparing import SAME_PX, SAME_SCORE, same_detections

TIMED_PX, TIMED_A, ROUNDS = (2048, 4096), 160.0, 5
"""Micrographs of noise in float16, of 1 Å/px."""


def compare(picker: Picker, graph: GraphPreparer, micrograph: Micrograph) -> dict[str, Any]:
    """One micrograph by both; what the graph leaves to the processor is counted alone."""
    image = graph.attempt(micrograph, picker.diameter_A)
    if image is None:
        return {"left": 1, "apart": 0.0, "detections": 0, "same": 0}
    wanted = picker.prepare(micrograph)
    got, by_numpy = (each.to_working(picker.assemble(each, picker.infer(each))) for each in (image, wanted))
    return {
        "left": 0,
        "apart": distance(image, wanted),
        "detections": len(by_numpy),
        "same": same_detections(got, by_numpy),
    }


def compare_set(folder: Path, opened: Picker, graph: GraphPreparer, most: int | None) -> list[dict[str, Any]]:
    """One set, in each kind of pixels."""
    picker = Picker(opened.backend, opened.spec, json.loads((folder / "specimen.json").read_text())["diameter_A"])
    micrographs = [read_micrograph(path) for path in sorted(folder.glob("*.mrc"))[:most]]
    rows = []
    for pixels in PREPROCESSING:
        found = [compare(picker, graph, replace(each, data=each.data.astype(pixels))) for each in micrographs]
        sums = {what: sum(each[what] for each in found) for what in ("left", "detections", "same")}
        apart = max(each["apart"] for each in found)
        rows.append({"set": folder.name, "pixels": pixels, "micrographs": len(found), "apart": apart, **sums})
        print(rows[-1], flush=True)
    return rows


def seconds(preparers: dict[str, Preparer], side: int) -> dict[str, Any]:
    """Medians for each, in turn."""
    noise = np.random.default_rng(0).standard_normal((side, side), np.float32).astype(np.float16)
    micrograph = Micrograph(noise, 1.0, Path("noise"))
    took: dict[str, list[float]] = {name: [] for name in preparers}
    for _ in range(1 + ROUNDS):
        for name, preparer in preparers.items():
            began = time.perf_counter()
            preparer.prepare(micrograph, TIMED_A)
            took[name].append(time.perf_counter() - began)
    row = {"side_px": side, **{f"{name}_s": median(all_s[1:]) for name, all_s in took.items()}}
    print(row, flush=True)
    return row


def main() -> None:
    """Compare, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="the folder of the sets")
    parser.add_argument("--micrographs", type=int, help="of each set; all by default")
    arguments = parser.parse_args()
    opened = open_picker(TIMED_A, backend="cpu")
    graph = GraphPreparer(opened.spec, OnnxRuntimeGraphs("CPUExecutionProvider", {}, "cpu"))
    folders = sorted(path.parent for path in arguments.real.glob("*/specimen.json"))
    rows = [row for folder in folders for row in compare_set(folder, opened, graph, arguments.micrographs)]
    totals = {what: sum(row[what] for row in rows) for what in ("micrographs", "left", "detections", "same")}
    print(totals)
    timed = [seconds({"numpy": NumpyPreparer(opened.spec), "graph": graph}, side) for side in TIMED_PX]
    limits = {"same_px": SAME_PX, "same_score": SAME_SCORE}
    save(__file__, circumstances(sys.argv) | limits | {"totals": totals, "sets": rows, "seconds": timed})


if __name__ == "__main__":
    main()
