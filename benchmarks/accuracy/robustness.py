"""What binning, inverting, turning, cropping, rounding and noise cost on EMPIAR-10017.

Every variant is written to disk and picked by the real command, with the same diameter in Å. F1
counts picks and labels whose whole circle is on the variant; the loss is to the picks on the
untouched micrographs, counted on the same area. Writes results/robustness.json.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.shared.common import DATA, DIAMETER_A, PIXEL_SIZE_A, circumstances, convert, pick_command, save
from gtpick_rt.detection.picker import whole
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.output.commit import star_path
from gtpick_rt.types import FloatArray, Picks

DIAMETER_PX = DIAMETER_A / PIXEL_SIZE_A
GOAL = 0.03
ANGLE = 17.0
"""Degrees, counter-clockwise as the image is shown."""
CROP = (700, 200, 2560, 3712)
"""First row and column, height and width."""
NOISE = 0.1
"""Standard deviation, in those of the image."""

Shape = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A change of a micrograph, and where its pixels go."""

    change: Callable[[FloatArray], NDArray[Any]]
    """From and to `(h, w)` pixels."""
    move: Callable[[FloatArray, Shape], FloatArray] = lambda xy, shape: xy
    """`(n, 2)` x, y of a micrograph of a shape (h, w) to those of its variant; 0-based."""
    zoom: int = 1
    """Pixels of the micrograph along one of the variant's."""


def binned(pixels: FloatArray) -> FloatArray:
    """Means over 2 x 2 pixels."""
    height, width = (side // 2 for side in pixels.shape)
    return pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3), dtype=np.float32)


def move_binned(xy: FloatArray, shape: Shape) -> FloatArray:
    """Where `binned` moves a point."""
    return (xy - np.float32(0.5)) / np.float32(2)


def quarter_turned(xy: FloatArray, shape: Shape) -> FloatArray:
    """Where `np.rot90` moves a point."""
    return np.stack([xy[:, 1], shape[1] - 1 - xy[:, 0]], axis=1)


def inner(shape: Shape) -> Shape:
    """Height and width of an upright rectangle of these proportions in an image turned by ANGLE."""
    height, width = shape
    cos, sin = math.cos(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
    share = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    return int(height * share), int(width * share)


def turned(pixels: FloatArray) -> FloatArray:
    """Turn by `ANGLE` about the centre and keep the rectangle that is full of pixels."""
    (height, width), (h, w) = pixels.shape, inner((pixels.shape[0], pixels.shape[1]))
    image = Image.fromarray(pixels).rotate(ANGLE, Image.Resampling.BICUBIC)
    left, top = (width - w) // 2, (height - h) // 2
    return np.asarray(image)[top : top + h, left : left + w]


def move_turned(xy: FloatArray, shape: Shape) -> FloatArray:
    """Where `turned` moves a point."""
    (height, width), (h, w) = shape, inner(shape)
    cos, sin = math.cos(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
    x, y = xy[:, 0] - (width - 1) / 2, xy[:, 1] - (height - 1) / 2
    x, y = cos * x + sin * y, cos * y - sin * x
    return np.stack([x + (width - 1) / 2 - (width - w) // 2, y + (height - 1) / 2 - (height - h) // 2], axis=1)


def cropped(pixels: FloatArray) -> FloatArray:
    """The part `CROP`."""
    top, left, height, width = CROP
    return pixels[top : top + height, left : left + width]


def move_cropped(xy: FloatArray, shape: Shape) -> FloatArray:
    """Where `cropped` moves a point."""
    return xy - np.array(CROP[1::-1], np.float32)


def noisier(pixels: FloatArray) -> FloatArray:
    """With Gaussian noise added; the same at every call."""
    noise = np.random.default_rng(10).standard_normal(pixels.shape, np.float32)
    return pixels + np.float32(NOISE) * pixels.std() * noise


VARIANTS = {
    "untouched": Variant(change=lambda pixels: pixels),
    "binned 2x": Variant(change=binned, move=move_binned, zoom=2),
    "inverted": Variant(change=np.negative),
    "rotated by 90 degrees": Variant(change=np.rot90, move=quarter_turned),
    f"rotated by {ANGLE:g} degrees": Variant(change=turned, move=move_turned),
    "cropped, not square": Variant(change=cropped, move=move_cropped),
    "float16": Variant(change=lambda pixels: pixels.astype(np.float16)),
    f"noise of {NOISE:.0%} added": Variant(change=noisier),
}


def write(micrographs: list[Path], variant: Variant, folder: Path) -> tuple[Shape, Shape]:
    """Write the variant of each micrograph into `folder`; returns the shapes before and after."""
    folder.mkdir()
    for path in micrographs:
        with mrcfile.open(path) as mrc:
            pixels = np.array(mrc.data)
        changed = np.ascontiguousarray(variant.change(pixels))
        with mrcfile.new(folder / path.name) as mrc:
            mrc.set_data(changed)
            mrc.voxel_size = PIXEL_SIZE_A * variant.zoom
    return (pixels.shape[0], pixels.shape[1]), (changed.shape[0], changed.shape[1])


def pick(micrographs: Path, out: Path, model: str | None) -> tuple[dict[str, Picks], dict[str, Any]]:
    """Run the command; returns the picks by the micrograph's name, and the run's summary."""
    subprocess.run(pick_command([micrographs], out, model), check=True)
    stems = [path.stem for path in sorted(micrographs.iterdir())]
    picks = {stem: read_coordinates(star_path(out, PurePosixPath(stem))) for stem in stems}
    return picks, json.loads((out / "summary.json").read_text())


def moved(picks: Picks, variant: Variant, shape: Shape) -> Picks:
    """The same places on the variant of a micrograph of `shape`."""
    xy = np.asarray(variant.move(picks.xy_px, shape), np.float32)
    return Picks(xy, picks.diameter_px, picks.score)


def compare(
    found: dict[str, Picks], before: dict[str, Picks], labels: dict[str, Picks], variant: Variant, shapes: list[Shape]
) -> dict[str, Any]:
    """Figures of the picks `found` on a variant, and of those found `before`, on the same area."""
    original, shape = shapes
    diameter = DIAMETER_PX / variant.zoom

    def figures(chosen: dict[str, Picks]) -> dict[str, Any]:
        truth = {name: whole(moved(labels[name], variant, original), shape, diameter) for name in labels}
        pairs = {name: (whole(chosen[name], shape, diameter), truth[name]) for name in labels}
        pooled = asdict(evaluate(list(pairs.values()), diameter / 3))
        each = {name: evaluate([pair], diameter / 3).f1 for name, pair in pairs.items()}
        keys = ("picks", "labels", "matches", "precision", "recall", "f1")
        return {**{key: pooled[key] for key in keys}, "f1_per_micrograph": each}

    untouched = figures({name: moved(picks, variant, original) for name, picks in before.items()})
    now = figures(found)
    loss = untouched["f1"] - now["f1"]
    return {**now, "untouched_on_the_same_area": untouched, "f1_loss": loss, "within_goal": loss <= GOAL}


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the figures as a table."""
    print(f"\n{'variant':24} {'picks':>6} {'precision':>9} {'recall':>7} {'F1':>6} {'untouched':>9} {'loss':>7}")
    for name, row in rows.items():
        f1 = row["untouched_on_the_same_area"]["f1"]
        print(f"{name:24} {row['picks']:6} {row['precision']:9.3f} {row['recall']:7.3f} {row['f1']:6.3f}", end="")
        print(f" {f1:9.3f} {row['f1_loss']:+7.3f}" + ("" if row["within_goal"] else f"  more than {GOAL}"))


def main() -> None:
    """Make, pick and compare every variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images and labels (README.md)")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    before: dict[str, Picks] = {}
    models = []
    with tempfile.TemporaryDirectory() as temporary:
        micrographs = convert(arguments.data, Path(temporary) / "micrographs")
        files = {path.stem: arguments.data / "labels" / f"{path.stem}.csv" for path in micrographs}
        labels = {name: read_coordinates(file) for name, file in files.items()}
        for name, variant in VARIANTS.items():
            with tempfile.TemporaryDirectory(dir=temporary) as folder:
                shapes = write(micrographs, variant, Path(folder) / "micrographs")
                found, summary = pick(Path(folder) / "micrographs", Path(folder) / "picks", arguments.model)
            before = before or found  # the untouched ones come first
            rows[name] = compare(found, before, labels, variant, list(shapes))
            models.append(summary["model"])
            rows[name]["flags"] = {each["stem"]: each["flags"] for each in summary["micrographs"] if each["flags"]}
    if any(model != models[0] for model in models):
        sys.exit("the model was replaced while this ran; run it again")
    show(rows)
    command = pick_command([Path("VARIANT")], Path("OUT"), arguments.model and Path(arguments.model).name)
    result = {
        "model": models[0],
        "threshold": summary["parameters"]["threshold"],
        "rule": "one-to-one, centres within a third of the diameter, most matches; whole circles only",
        "goal": f"a loss of at most {GOAL} F1",
        "variants": rows,
    }
    save(__file__, {**circumstances(command), **result})


if __name__ == "__main__":
    main()
