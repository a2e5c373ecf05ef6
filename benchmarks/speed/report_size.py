"""How large `gtpick-rt report` becomes with the number of micrographs.

The folder is made up: a K3's micrographs, whose pictures are noise, which JPEG can make least
smaller, with as many picks each as a report draws at most. Flags take turns, and of 50 micrographs
one has failed, so that the report has all the pictures and failures that it may have. The
micrographs are one file by many names. Writes results/report_size.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path, PurePosixPath

import numpy as np

from benchmarks.shared.common import PROGRAM, circumstances, save, without_sync
from benchmarks.speed.restart import LINKS
from benchmarks.speed.rethreshold import HEIGHT, SETTINGS, WIDTH, prepare
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.detection.quality import FLAGS
from gtpick_rt.formats.star import read_record
from gtpick_rt.output.layout import detections_path, log_path, preview_path, star_path
from gtpick_rt.output.overlay import draw_preview

DETECTIONS = 4000
"""Of which half are picks, at `SETTINGS.threshold`."""
EVERY_FAILED = 50
FIRST = PurePosixPath("FoilHole_00000000_Data_31419_fractions")


def make(out: Path, count: int) -> None:
    """Make what a report is made of: a log of so many micrographs, with pictures and detections."""
    prepare(out, 1, DETECTIONS)
    pixels = np.random.default_rng(0).normal(size=(HEIGHT // 4, WIDTH // 4)).astype(np.float32)
    image = WorkingImage(pixels, (HEIGHT, WIDTH), np.zeros((1, 1), np.float32))
    preview_path(out, FIRST).parent.mkdir(parents=True, exist_ok=True)
    preview_path(out, FIRST).write_bytes(draw_preview(image))
    record = json.loads(read_record(star_path(out, FIRST)))["record"]
    sources = [preview_path(out, FIRST), detections_path(out, FIRST)]
    start = time.time() - 6 * count
    with without_sync(), log_path(out).open("w") as log:
        for number in range(count):
            stem = PurePosixPath(f"FoilHole_{number:08}_Data_31419_fractions")
            at = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(start + 6 * number))}
            named = {"stem": str(stem), "name": f"{stem}.mrc", "path": f"{stem}.mrc"}
            if number % EVERY_FAILED == EVERY_FAILED - 1:
                told = {
                    "state": "failed",
                    "kind": "FormatError",
                    "message": f"{stem}.mrc: not a kind of file that is read",
                }
                log.write(json.dumps(at | told | named) + "\n")
                continue
            flags = [FLAGS[number % len(FLAGS)]] if number % 7 == 0 else []
            picked = {"state": "picked", "lag_s": 3.0, "stage_seconds": {"infer": 0.3}, "backlog": 0}
            log.write(json.dumps(at | picked | record | named | {"flags": flags, "median_score": 0.5}) + "\n")
            places = [preview_path(out, stem), detections_path(out, stem)]
            if number and number % LINKS == 0:
                sources = [Path(shutil.copy(source, place)) for source, place in zip(sources, places, strict=True)]
            elif number:
                for source, place in zip(sources, places, strict=True):
                    place.hardlink_to(source)


def report_MB(folder: Path, count: int) -> float:
    """Size of the report of so many micrographs."""
    out, page = folder / f"picks{count}", folder / "report.html"
    make(out, count)
    subprocess.run([PROGRAM, "report", str(out), "--out", str(page)], check=True)
    return round(page.stat().st_size / 1e6, 2)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 10_000, 50_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {str(count): report_MB(Path(folder), count) for count in options.counts}
    print(sizes)
    made = {"detections": DETECTIONS, "threshold": SETTINGS.threshold, "one_failed_of": EVERY_FAILED}
    save(__file__, circumstances(["python", *sys.argv]) | made | {"report_MB": sizes})


if __name__ == "__main__":
    main()
