"""Precision, recall, F1 and AP on ten real micrographs (EMPIAR-10017) that the shipped models never saw.

A pick pairs with a label one to one within a third of the diameter; the threshold is the model's own default.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from common import DATA, DIAMETER_A, PIXEL_SIZE_A, RESULTS, circumstances, convert, pick_command, save
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from gtpick_rt.commit import load_detections, star_path
from gtpick_rt.evaluate import curve, evaluate, match
from gtpick_rt.formats import read_coordinates
from gtpick_rt.types import Picks

DIAMETER_PX = DIAMETER_A / PIXEL_SIZE_A
RADIUS_PX = DIAMETER_PX / 3
RULE = f"one-to-one, centres within a third of the diameter ({RADIUS_PX:.1f} px), most matches"
OVERLAY_PX = 1024
COLOURS = {"matched": "#56B4E9", "false": "#D55E00", "missed": "#F0E442"}
"""Of the Okabe-Ito palette: sky blue, vermilion, yellow."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One micrograph, picked and labelled."""

    path: Path
    picks: Picks
    detections: Picks
    """All that were kept, down to the model's floor."""
    labels: Picks
    negatives: Picks
    """Places that a person marked as no particle."""

    def figures(self) -> dict[str, Any]:
        """Return the micrograph's own precision, recall and F1."""
        figures = asdict(evaluate([(self.picks, self.labels)], RADIUS_PX))
        keys = ("picks", "labels", "matches", "precision", "recall", "f1")
        return {"micrograph": self.path.stem, **{key: figures[key] for key in keys}}

    def negatives_hit(self) -> int:
        """Count the negatives that have a pick within the radius."""
        if not (len(self.picks) and len(self.negatives)):
            return 0
        distance, _ = KDTree(self.picks.xy_px).query(self.negatives.xy_px)
        return int(np.count_nonzero(distance <= RADIUS_PX))


def load(data: Path, micrograph: Path, out: Path) -> Scored:
    """Bring together what was picked on `micrograph` and what people marked on it."""
    name = micrograph.stem
    return Scored(
        path=micrograph,
        picks=read_coordinates(star_path(out, PurePosixPath(name)), DIAMETER_PX),
        detections=load_detections(out, PurePosixPath(name)),
        labels=read_coordinates(data / "labels" / f"{name}.csv", DIAMETER_PX),
        negatives=read_coordinates(data / "negatives" / f"{name}.csv", DIAMETER_PX),
    )


def score(scored: list[Scored]) -> dict[str, Any]:
    """All figures of the benchmark."""
    pooled = asdict(evaluate([(s.picks, s.labels) for s in scored], RADIUS_PX))
    pooled["average_precision"] = curve([(s.detections, s.labels) for s in scored], RADIUS_PX).average_precision
    return {
        "rule": RULE,
        "pooled": pooled,
        "picks_per_micrograph": pooled["picks"] / len(scored),
        "negatives": sum(len(s.negatives) for s in scored),
        "negatives_hit": sum(s.negatives_hit() for s in scored),
        "micrographs": [s.figures() for s in scored],
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    row = "{:32} {:>6} {:>6} {:>9.3f} {:>7.3f} {:>6.3f}"
    print(f"{'micrograph':32} {'picks':>6} {'labels':>6} {'precision':>9} {'recall':>7} {'F1':>6}")
    for m in [*result["micrographs"], {"micrograph": "all", **result["pooled"]}]:
        print(row.format(*(m[key] for key in ("micrograph", "picks", "labels", "precision", "recall", "f1"))))
    print(
        f"\nAP {result['pooled']['average_precision']:.3f}, {result['picks_per_micrograph']:.0f} picks per micrograph"
    )
    print(f"negatives with a pick: {result['negatives_hit']} of {result['negatives']}")
    print(f"matching: {result['rule']}")


def draw(scored: Scored, path: Path) -> None:
    """Draw matched and false picks and missed labels on the reduced micrograph."""
    with Image.open(path) as image:
        scale = OVERLAY_PX / max(image.size)
        pixels = np.asarray(
            image.convert("F").resize([round(side * scale) for side in image.size], Image.Resampling.BOX)
        )
    low, high = np.percentile(pixels, (1, 99))
    picture = Image.fromarray((np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)).convert("RGB")
    pairs = match(scored.picks.xy_px, scored.labels.xy_px, RADIUS_PX)
    centres = {
        "matched": scored.picks.xy_px[pairs[:, 0]],
        "false": np.delete(scored.picks.xy_px, pairs[:, 0], axis=0),
        "missed": np.delete(scored.labels.xy_px, pairs[:, 1], axis=0),
    }
    pen = ImageDraw.Draw(picture)
    for kind, colour in COLOURS.items():
        for x, y in ((centres[kind] + 0.5) * scale - 0.5).tolist():
            pen.circle((x, y), DIAMETER_PX * scale / 2, outline=colour, width=2)
    out = RESULTS / f"empiar10017_{scored.path.stem}.png"
    picture.save(out, optimize=True)
    print(f"overlay ({', '.join(f'{kind} {len(xy)}' for kind, xy in centres.items())}): {out}")


def main() -> None:
    """Convert, pick, score, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images, labels, negatives (README.md)")
    parser.add_argument("--work", type=Path, help="keep converted micrographs and picks here")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        micrographs = convert(arguments.data, work / "micrographs")
        out = work / "picks"
        shutil.rmtree(out, ignore_errors=True)
        command = pick_command([work / "micrographs"], out, arguments.model)
        subprocess.run(command, check=True)
        scored = [load(arguments.data, micrograph, out) for micrograph in micrographs]
        summary = json.loads((out / "summary.json").read_text())
    result = score(scored)
    show(result)
    RESULTS.mkdir(exist_ok=True)
    by_f1 = sorted(scored, key=lambda s: s.figures()["f1"])
    for chosen in (by_f1[-1], by_f1[len(by_f1) // 2], by_f1[0]):  # the best, the median and the worst
        draw(chosen, arguments.data / "images" / f"{chosen.path.stem}.jpg")
    model = {"model": summary["model"], "threshold": summary["parameters"]["threshold"]}
    recorded = circumstances(
        pick_command([Path("MICROGRAPHS")], Path("OUT"), arguments.model and Path(arguments.model).name)
    )
    save("accuracy_empiar10017", recorded | model | result)


if __name__ == "__main__":
    main()
