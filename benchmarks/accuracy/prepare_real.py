"""Prepare labelled, graded and empty micrographs for `gtpick-rt train --real`.

    python benchmarks/accuracy/prepare_real.py WORK

Each set becomes a folder of standardised MRC files with its labels and a `specimen.json`. Pixel sizes that nobody
states are guesses, good enough for micrographs that only lend background.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
from PIL import Image

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Set(NamedTuple):
    """Where the images of one set are, and what its `specimen.json` will say."""

    images: str
    pixel_size_A: float
    specimen: dict[str, Any]
    labels: str = ""
    bin: int = 1


SETS = {
    "empiar10017": Set("empiar10017/images/*.jpg", 1.77, {"diameter_A": 191}, "empiar10017/labels", 2),
    "empiar10028": Set("empiar10028/images/*.png", 5.36, {"diameter_A": 300}, "empiar10028/labels"),
    "empiar10059": Set("empiar10059/images/*.png", 4.5, {"diameter_A": 160}, "empiar10059/labels"),
    "no_ice": Set("quality/no_ice/*.png", 8.5, {"diameter_A": 170, "particles": "none"}),
    "no_particles": Set("quality/no_particles/*.png", 8.5, {"diameter_A": 170, "particles": "none"}),
    "crystalline_ice": Set("quality/crystalline_ice/*.png", 8.5, {"diameter_A": 170, "particles": "none"}),
    "contaminated": Set("quality/contaminated/*.png", 8.5, {"diameter_A": 170, "particles": "unlabelled"}),
    "vesicles": Set("vesicles/*.png", 2.7, {"diameter_A": 160, "particles": "none"}),
    "empiar10947": Set("empiar10947/images/*.png", 4.5, {"diameter_A": 160, "particles": "unlabelled"}),
}
"""By the name of the folder to write: what is trained on."""
JUDGED = {
    "decent": Set("quality/decent/*.png", 8.5, {"diameter_A": 170, "particles": "unlabelled"}),
    "great": Set("quality/great/*.png", 8.5, {"diameter_A": 170, "particles": "unlabelled"}),
}
"""Full of particles that nobody labelled: their picks are counted, and nothing is learned from them."""
SPECIMENS = tuple(name for name, each in SETS.items() if each.labels)


def prepare(data: Path, out: Path, name: str) -> Path:
    """Write one set as a folder of its name below `out`, unless it is there; returns the folder."""
    source, folder = (SETS | JUDGED)[name], out / name
    if (folder / "specimen.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted(data.glob(source.images)):
        pixels = np.asarray(Image.open(image).convert("F"), np.float32)
        height, width = (n // source.bin * source.bin for n in pixels.shape)
        blocks = pixels[:height, :width].reshape(height // source.bin, source.bin, width // source.bin, source.bin)
        pixels = blocks.mean(axis=(1, 3))
        with mrcfile.new(folder / f"{image.stem}.mrc", overwrite=True) as mrc:
            mrc.set_data(((pixels - pixels.mean()) / pixels.std()).astype(np.float32))
            mrc.voxel_size = source.pixel_size_A * source.bin
        if source.labels:
            _write_labels(data / source.labels / f"{image.stem}.csv", folder / f"{image.stem}.csv", source.bin)
    (folder / "specimen.json").write_text(json.dumps(source.specimen, indent=1) + "\n")
    return folder


def _write_labels(source: Path, target: Path, factor: int) -> None:
    """Copy labels, in pixels of the binned image: pixel centres, 0-based."""
    if factor == 1:
        shutil.copyfile(source, target)
        return
    header, *rows = source.read_text().split()
    assert header.split(",")[:2] == ["x", "y"], f"{source}: columns x,y are expected, found {header}"
    xy = [[(float(value) + 0.5) / factor - 0.5 for value in row.split(",")[:2]] for row in rows]
    target.write_text("x,y\n" + "".join(f"{x:.2f},{y:.2f}\n" for x, y in xy))


def main() -> None:
    """Prepare every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder to write into, outside the repository")
    parser.add_argument("--data", type=Path, default=DATA, help="the development data")
    arguments = parser.parse_args()
    for name in SETS | JUDGED:
        print(prepare(arguments.data, arguments.work, name))


if __name__ == "__main__":
    main()
