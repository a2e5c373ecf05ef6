"""Precision, recall, F1 and AP on ten real micrographs, which the network that ships has seen.

They are of EMPIAR-10017. A pick pairs with a label one to one within a third of the diameter; the
threshold is the one that `pick` finds.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.shared.common import (
    DATA,
    DIAMETER_A,
    PIXEL_SIZE_A,
    circumstances,
    convert,
    pick_command,
    result_path,
    save,
)
from gtpick_rt.evaluate.loading import Compared, load
from gtpick_rt.evaluate.matching import match
from gtpick_rt.evaluate.report import Lengths, report

DIAMETER_PX = DIAMETER_A / PIXEL_SIZE_A
RADIUS_PX = DIAMETER_PX / 3
LENGTHS = Lengths(diameter_px=DIAMETER_PX, radius_px=RADIUS_PX, pixel_size_A=PIXEL_SIZE_A)
RULE = f"one-to-one, centres within a third of the diameter ({RADIUS_PX:.1f} px), most matches"
OVERLAY_PX = 1024
COLOURS = {"matched": "#56B4E9", "false": "#D55E00", "missed": "#F0E442"}
"""Of the Okabe-Ito palette: sky blue, vermilion, yellow."""


def score(compared: list[Compared]) -> dict[str, Any]:
    """All figures of the benchmark."""
    figures = report(compared, LENGTHS)
    assert figures.curve is not None
    record = figures.record()
    return {
        "rule": RULE,
        "picks_per_micrograph": record["picks"] / len(compared),
        "precision_at_recall_half": figures.curve.precision_at(0.5),
        **record,
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    row = "{:32} {:>6} {:>6} {:>9.3f} {:>7.3f} {:>6.3f}"
    print(f"{'micrograph':32} {'picks':>6} {'labels':>6} {'precision':>9} {'recall':>7} {'F1':>6}")
    for m in [*result["per_micrograph"], {**result, "micrograph": "all"}]:
        print(row.format(*(m[key] for key in ("micrograph", "picks", "labels", "precision", "recall", "f1"))))
    boxes = result["iou50"]
    print(f"at IoU 0.5: precision {boxes['precision']:.3f}, recall {boxes['recall']:.3f}, F1 {boxes['f1']:.3f}")
    print(f"AP {result['average_precision']:.3f}, {result['picks_per_micrograph']:.0f} picks per micrograph")
    print(f"precision where half of the labels are found: {result['precision_at_recall_half']:.3f}")
    print(f"median centre error: {result['centre_error_px']:.1f} px = {result['centre_error_A']:.1f} Å")
    print(f"duplicates: {result['duplicates']} ({result['duplicate_share']:.1%} of picks)")
    print(f"expected calibration error: {result['calibration']['expected_error']:.3f}")
    print(f"negatives with a pick: {result['negatives_hit']} of {result['negatives']}")
    print(f"matching: {result['rule']}")


def draw(compared: Compared, path: Path) -> None:
    """Draw matched and false picks and missed labels on the reduced micrograph."""
    with Image.open(path) as image:
        scale = OVERLAY_PX / max(image.size)
        pixels = np.asarray(
            image.convert("F").resize([round(side * scale) for side in image.size], Image.Resampling.BOX)
        )
    low, high = np.percentile(pixels, (1, 99))
    picture = Image.fromarray((np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)).convert("RGB")
    pairs = match(compared.picks.xy_px, compared.labels.xy_px, RADIUS_PX)
    centres = {
        "matched": compared.picks.xy_px[pairs[:, 0]],
        "false": np.delete(compared.picks.xy_px, pairs[:, 0], axis=0),
        "missed": np.delete(compared.labels.xy_px, pairs[:, 1], axis=0),
    }
    pen = ImageDraw.Draw(picture)
    for kind, colour in COLOURS.items():
        for x, y in ((centres[kind] + 0.5) * scale - 0.5).tolist():
            pen.circle((x, y), DIAMETER_PX * scale / 2, outline=colour, width=2)
    out = result_path(__file__, f"_{compared.name}.png")
    picture.save(out, optimize=True)
    print(f"overlay ({', '.join(f'{kind} {len(xy)}' for kind, xy in centres.items())}): {out}")


def main() -> None:
    """Convert, pick, score, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images, labels, negatives (README.md)")
    parser.add_argument("--work", type=Path, help="keep converted micrographs and picks here")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    parser.add_argument("--backend", default="cpu", help="as `gtpick-rt pick --backend`; cpu is the reference")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        convert(arguments.data, work / "micrographs")
        out = work / "picks"
        shutil.rmtree(out, ignore_errors=True)
        command = pick_command([work / "micrographs"], out, arguments.model, backend=arguments.backend)
        subprocess.run(command, check=True)
        data = arguments.data
        loaded = load(out, data / "labels", DIAMETER_PX, negatives=data / "negatives")
        summary = json.loads((out / "summary.json").read_text())
    if loaded.ignored:
        sys.exit(f"without a counterpart: {', '.join(loaded.ignored)}")
    result = score(loaded.micrographs)
    show(result)
    is_reference = arguments.backend == "cpu"
    by_f1 = sorted(result["per_micrograph"], key=lambda m: m["f1"])
    named = {each.name: each for each in loaded.micrographs}
    chosen_ones = (by_f1[-1], by_f1[len(by_f1) // 2], by_f1[0]) if is_reference else ()
    for chosen in chosen_ones:  # the best, the median and the worst
        name = chosen["micrograph"]
        draw(named[name], data / "images" / f"{name}.jpg")
    model = {"model": summary["model"], "threshold": summary["parameters"]["threshold"]}
    named_model = arguments.model and Path(arguments.model).name
    recorded = circumstances(pick_command([Path("MICROGRAPHS")], Path("OUT"), named_model, backend=arguments.backend))
    suffix = ".json" if is_reference else f"_{arguments.backend}.json"
    save(__file__, recorded | result | model | {"backend": summary["backend"]}, suffix)


if __name__ == "__main__":
    main()
