"""How large is the page that `gtpick-rt report` makes, and how long does it take?

Made for each count of micrographs and of picks on each: a log, pictures of nothing but noise (which JPEG compresses
worst, of the pipeline's own size and quality) and detections at random. Every tenth micrograph has a flag, every
hundredth failed. Then the public command makes the report. Writes results/report.json.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from common import circumstances, measure, save
from PIL import Image

from gtpick_rt.layout import detections_path, log_path, preview_path
from gtpick_rt.overlay import MAX_SIDE_PX
from gtpick_rt.quality import FLAGS
from gtpick_rt.summary import Failure, MicrographRecord

COUNTS = (48, 1000, 10_000, 50_000)
PICKS = (100, 500, 3000)
SIDE_PX = 4096


def write_noise(path: Path, random: np.random.Generator) -> None:
    """Write a preview as `overlay.draw_preview` would, of white noise."""
    noise = np.clip(random.normal(127.5, 42.5, (MAX_SIDE_PX, MAX_SIDE_PX)), 0, 255).astype(np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(noise).save(jpeg, "JPEG", quality=75)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg.getvalue())


def write_detections(path: Path, picks: int, random: np.random.Generator) -> None:
    """Keep so many picks and as many detections below the threshold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    score = np.concatenate([random.uniform(0.5, 1, picks), random.uniform(0.05, 0.5, picks)]).astype(np.float32)
    xy_px = random.uniform(0, SIDE_PX, (2 * picks, 2)).astype(np.float32)
    np.savez(path, xy_px=xy_px, diameter_px=random.normal(150, 9, 2 * picks).astype(np.float32), score=score)


def prepare(out: Path, count: int, picks: int) -> None:
    """Make an output folder of so many micrographs; those that are alike share their files."""
    random = np.random.default_rng(count + picks)
    one, kept = out / "one.jpg", out / "one.npz"
    write_noise(one, random)
    write_detections(kept, picks, random)
    settings = {"model": "gtpick-nano 2", "diameter_A": 150.0, "threshold": 0.5}
    lines: list[dict[str, Any]] = [{"state": "begun", "settings": settings, "backend": "cpu"}]
    for number in range(count):
        stem = f"GridSquare_17/FoilHole_2309{number:05}_Data_fractions_patch_aligned_doseweighted"
        if number % 100 == 7:
            failure = Failure(stem=stem, path=f"Micrographs/{stem}.mrc", kind="FormatError", message="no image")
            lines.append({"state": "failed", **asdict(failure), "backlog": 0})
            continue
        record = MicrographRecord(
            stem=stem,
            name=f"Micrographs/{stem}.mrc",
            path=f"Micrographs/{stem}.mrc",
            size=1,
            mtime_ns=1,
            width=SIDE_PX,
            height=SIDE_PX,
            pixel_size_A=1.0,
            picks=int(random.poisson(picks)),
            detections=2 * picks,
            seconds=0.4,
            flags=[FLAGS[number // 10 % len(FLAGS)]] if number % 10 == 3 else [],
            median_score=round(random.uniform(0.7, 0.9), 4),
        )
        lines.append({"state": "picked", **asdict(record), "lag_s": 3.0, "stage_seconds": {"infer": 0.3}, "backlog": 0})
        for source, target in ((one, preview_path), (kept, detections_path)):
            path = target(out, PurePosixPath(stem))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(source)
    with log_path(out).open("w") as log:
        for number, line in enumerate(lines):
            at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(1.8e9 + 6 * number))
            log.write(json.dumps({"time": at, **line}) + "\n")


def main() -> None:
    """Make reports of runs of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="micrographs of a run")
    parser.add_argument("--picks", type=int, nargs="+", default=PICKS, help="picks on each")
    options = parser.parse_args()
    program = str(Path(sys.executable).with_name("gtpick-rt"))
    found = []
    for count in options.counts:
        for picks in options.picks:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                prepare(out, count, picks)
                page = out / "report.html"
                cost = measure([program, "report", str(out), "--out", str(page)])
                row = {"micrographs": count, "picks_each": picks, "page_MB": round(page.stat().st_size / 1e6, 2)}
                found.append(row | {name: round(cost[name], 1) for name in ("seconds", "peak_MB")})
                print(found[-1], flush=True)
    save("report", {**circumstances(sys.argv), "reports": found})


if __name__ == "__main__":
    main()
