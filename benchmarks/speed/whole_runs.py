"""Seconds and peak memory of whole `gtpick-rt pick` runs on 1, 2, 5 and 10 micrographs."""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.common import DATA, circumstances, convert, measure, pick_command, save

COUNTS = (1, 2, 5, 10)
REPEATS = 3


def measure_stages(command: list[str], out: Path) -> dict[str, Any]:
    """Run `command` with an empty `out`: as `measure`, and seconds by stage."""
    shutil.rmtree(out, ignore_errors=True)
    figures = measure(command)
    return {**figures, "stage_seconds": json.loads((out / "summary.json").read_text())["stage_seconds"]}


def measure_counts(micrographs: list[Path], work: Path, model: str | None) -> list[dict[str, Any]]:
    """One row per number of micrographs: all repeats, and their medians."""
    rows = []
    for n in (n for n in COUNTS if n <= len(micrographs)):
        command = pick_command(micrographs[:n], work / "picks", model)
        runs = [measure_stages(command, work / "picks") for _ in range(REPEATS)]
        median = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "peak_MB")}
        rows.append({"micrographs": n, **median, "runs": runs})
        print(f"{n:11} {median['seconds']:9.2f} {median['seconds'] / n:14.2f} {median['peak_MB']:9.0f}", flush=True)
    return rows


def stages_per_micrograph(row: dict[str, Any]) -> dict[str, float]:
    """Median seconds of every stage, per micrograph."""
    stages = row["runs"][0]["stage_seconds"]
    runs = row["runs"]
    return {s: round(statistics.median(r["stage_seconds"][s] for r in runs) / row["micrographs"], 4) for s in stages}


def main() -> None:
    """Convert, measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images/*.jpg (benchmarks/README.md)")
    parser.add_argument("--work", type=Path, help="keep converted micrographs and picks here")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        micrographs = convert(arguments.data, work / "micrographs")
        print("micrographs   seconds  s/micrograph   peak MB")
        rows = measure_counts(micrographs, work, arguments.model)
    slope, start = np.polyfit([row["micrographs"] for row in rows], [row["seconds"] for row in rows], 1)
    stages = stages_per_micrograph(rows[-1])
    print(f"\neach further micrograph {slope:.2f} s, starting {start:.2f} s")
    for stage, seconds in stages.items():
        print(f"  {stage:12} {seconds:.3f} s per micrograph")
    result = {
        "marginal_seconds": round(slope, 3),
        "start_seconds": round(start, 3),
        "stage_seconds": stages,
        "rows": rows,
    }
    save(
        __file__,
        circumstances(pick_command([Path("MICROGRAPHS")], Path("OUT"), arguments.model and Path(arguments.model).name))
        | result,
    )


if __name__ == "__main__":
    main()
