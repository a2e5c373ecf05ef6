"""What does each way of saying where not to pick cost in particles, and which false picks does it
remove?

On ten labelled micrographs of EMPIAR-10017, whose borders are smeared, and on 18 whole micrographs
that people have graded, which have no labels: there the picks are counted. Picks are those above
the model's own threshold; a pick pairs with a label one to one within a third of the diameter. A
marked negative, on film, ice or nothing, is hit by a pick within half of the diameter. The masks
leave out a disc of the diameter around each marked negative, as if somebody had painted them; on
the graded micrographs nobody has marked a place, so there is nothing to mask. Writes
results/exclusion.json.
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from benchmarks.shared.common import DATA, DIAMETER_A, PIXEL_SIZE_A, circumstances, save
from gtpick_rt import Micrograph, Picker, Picks
from gtpick_rt.detection.contamination import Mask, find_contamination
from gtpick_rt.detection.exclusion import Exclusion, keep, margins_px
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.evaluate.matching import match
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.reading.masks import read_mask

NONE = Exclusion(margin="0 Å")
OPTIONS = {
    "none": NONE,
    "--margin auto": Exclusion(),
    "--margin 120": Exclusion(margin="120 Å"),
    "--avoid-contamination": Exclusion(margin="0 Å", avoid_contamination=True),
    "--skip-flagged ice,carbon": Exclusion(margin="0 Å", skip_flagged="carbon edge, ice"),
    "--margin auto --avoid-contamination": Exclusion(avoid_contamination=True),
}
MASKED = "--mask, discs on what is marked"
QUALITY_PIXEL_SIZE_A, QUALITY_DIAMETER_A = 8.5, 170.0
"""Neither is stated with the data: the pixel size is estimated, the diameter a usual one."""


@dataclass(frozen=True)
class Looked:
    """A micrograph with all detections on it."""

    image: WorkingImage
    detections: Picks
    picker: Picker
    pixel_size_A: float

    def picks(self, exclusion: Exclusion, allowed: Mask | None = None) -> Picks:
        """Those above the model's threshold that lie where one may pick, also by a mask."""
        spec = self.picker.spec
        kept = keep(
            self.detections,
            self.image,
            spec,
            exclusion,
            margins=margins_px(exclusion.margin, self.image, self.pixel_size_A),
            contamination=find_contamination(self.image, spec),
            allowed=allowed,
        )
        return kept.detections[kept.detections.score >= spec.threshold]


def look(path: Path, picker: Picker, pixel_size_A: float) -> Looked:
    """Show a picture of a micrograph to the network."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("F"), np.float32)
    image = picker.prepare(Micrograph(pixels, pixel_size_A, path))
    return Looked(image, picker.assemble(image, picker.infer(image)), picker, pixel_size_A)


def points(path: Path) -> np.ndarray[Any, Any]:
    """Read the `(n, 2)` x and y of a list."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)[:, :2]


def mask_around(negatives: np.ndarray[Any, Any], diameter_px: float, image: WorkingImage) -> Mask:
    """Paint a mask that leaves out a disc of this diameter around each `(n, 2)` x and y, and read
    it as `--mask` does.
    """
    painted = Image.new("L", image.shape[::-1], 255)
    draw = ImageDraw.Draw(painted)
    for x, y in negatives:
        draw.circle((x, y), diameter_px / 2, fill=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        painted.save(path)
        return read_mask(path, image.shape, image.data.shape)


def labelled(data: Path, picker: Picker) -> Iterator[tuple[str, Counter[str]]]:
    """Counts for each option on each labelled micrograph."""
    diameter_px = DIAMETER_A / PIXEL_SIZE_A
    for path in sorted((data / "images").glob("*.jpg")):
        looked = look(path, picker, PIXEL_SIZE_A)
        labels, negatives = (points(data / kind / f"{path.stem}.csv") for kind in ("labels", "negatives"))
        found = {name: looked.picks(exclusion) for name, exclusion in OPTIONS.items()}
        found[MASKED] = looked.picks(NONE, mask_around(negatives, diameter_px, looked.image))
        for name, picks in found.items():
            xy = picks.xy_px
            matched = len(match(xy, labels, diameter_px / 3)) if len(xy) else 0
            hit = int((cKDTree(xy).query(negatives)[0] <= diameter_px / 2).sum()) if len(xy) else 0
            yield (
                name,
                Counter(
                    picks=len(xy), matched=matched, labels=len(labels), negatives_hit=hit, negatives=len(negatives)
                ),
            )


def rates(counts: Counter[str], before: Counter[str]) -> dict[str, float | int]:
    """Figures of an option, beside those without any."""
    precision, recall = counts["matched"] / max(1, counts["picks"]), counts["matched"] / counts["labels"]
    false = {name: each["picks"] - each["matched"] for name, each in (("now", counts), ("before", before))}
    return {
        **counts,
        "false": false["now"],
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(1e-9, precision + recall),
        "recall_lost": (before["matched"] - counts["matched"]) / counts["labels"],
        "false_removed": (false["before"] - false["now"]) / false["before"],
    }


def graded(folder: Path, picker: Picker) -> dict[str, dict[str, int]]:
    """Picks for each option, by the grade of the micrographs."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(folder.glob("*/*.png")):
        looked = look(path, picker, QUALITY_PIXEL_SIZE_A)
        found[path.parent.name].update({name: len(looked.picks(each)) for name, each in OPTIONS.items()})
    return {grade: dict(counts) for grade, counts in found.items()}


def show(result: dict[str, Any]) -> None:
    """Print both tables."""
    print(f"{'EMPIAR-10017':36} {'picks':>6} {'recall':>7} {'prec.':>6} {'F1':>6} {'negatives':>9}")
    for name, row in result["labelled"].items():
        figures = f"{row['picks']:6} {row['recall']:7.3f} {row['precision']:6.3f} {row['f1']:6.3f}"
        print(f"{name:36} {figures} {row['negatives_hit']:9}")
    print()
    print(f"{'picks on graded micrographs':36} " + " ".join(f"{grade[:12]:>12}" for grade in result["graded"]))
    for name in OPTIONS:
        print(f"{name:36} " + " ".join(f"{counts[name]:12}" for counts in result["graded"].values()))


def main() -> None:
    """Pick, leave out, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled micrographs")
    parser.add_argument("--graded", type=Path, help="folder of the graded ones; default: quality beside it")
    parser.add_argument("--model", help="name or path of a model; default: the one that ships")
    arguments = parser.parse_args()
    if not (arguments.data / "images").is_dir():
        sys.exit(f"no images/*.jpg in {arguments.data}: name the folder with --data (see benchmarks/README.md)")
    picker = open_picker(DIAMETER_A, model=arguments.model)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, each in labelled(arguments.data, picker):
        counts[name].update(each)
    other = Picker(picker.backend, picker.spec, QUALITY_DIAMETER_A)
    result = {
        "model": picker.spec.name,
        "version": picker.spec.version,
        "sha256": picker.model_sha256,
        "labelled": {name: rates(each, counts["none"]) for name, each in counts.items()},
        "graded": graded(arguments.graded or arguments.data.parent / "quality", other),
    }
    show(result)
    save(__file__, {**circumstances(sys.argv), **result})


if __name__ == "__main__":
    main()
