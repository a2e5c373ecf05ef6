"""Of the picks that match no label, how many are particles?

A rating by somebody who does not know which is which.

    python benchmarks/accuracy/blind_rating.py OUT
    python benchmarks/accuracy/blind_rating.py OUT --ratings RATINGS.json

The first picks, and writes OUT/sheet*.png and OUT/key.json; the second compares. RATINGS.json holds
{"1": "y", "2": "n", ...}.

The sheets show crops of the EMPIAR-10017 micrographs in random order: as many picks that match a
label as picks that match none, and as many places without label or detection. The rater says of
each whether a particle lies in its centre. Look at no key before the last rating.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mrcfile
import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from benchmarks.accuracy.empiar10017 import DIAMETER_PX, RADIUS_PX
from benchmarks.shared.common import DATA, circumstances, convert, pick_command, save
from gtpick_rt.evaluate.loading import Compared, load
from gtpick_rt.evaluate.matching import match
from gtpick_rt.types import FloatArray

KINDS = ("matched picks", "unmatched picks", "background")
EACH = 72
SHEET = 6
"""Crops along a side of a sheet."""
BIN, HALF, SHOWN = 4, 34, 220
"""Binning, half a crop's width in binned px, and its width on the sheet."""
BORDER_PX = 150
SEED = 20261122


def places(compared: Compared, size: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Centres `(n, 2)` in px of each kind, where a whole crop fits."""
    pairs = match(compared.picks.xy_px, compared.labels.xy_px, RADIUS_PX)
    taken = KDTree(np.concatenate([compared.detections.xy_px, compared.labels.xy_px]))
    anywhere = rng.uniform(BORDER_PX, size - BORDER_PX, (20_000, 2))
    found = (
        compared.picks.xy_px[pairs[:, 0]],
        np.delete(compared.picks.xy_px, pairs[:, 0], axis=0),
        anywhere[taken.query(anywhere)[0] > 0.6 * DIAMETER_PX][:40],
    )
    inside = [xy[((xy > BORDER_PX) & (xy < size - BORDER_PX)).all(axis=1)] for xy in found]
    return dict(zip(KINDS, inside, strict=True))


def crops(path: Path, compared: Compared, rng: np.random.Generator) -> dict[str, list[FloatArray]]:
    """Every crop of each kind of one micrograph."""
    pixels = mrcfile.read(path)
    h, w = (side // BIN for side in pixels.shape)
    image = pixels[: h * BIN, : w * BIN].reshape(h, BIN, w, BIN).mean((1, 3))
    cut = {}
    for kind, xy in places(compared, min(pixels.shape), rng).items():
        centres = np.round((xy + 0.5) / BIN - 0.5).astype(int)
        cut[kind] = [image[y - HALF : y + HALF, x - HALF : x + HALF] for x, y in centres]
    return cut


def draw(items: list[FloatArray], first: int) -> Image.Image:
    """One sheet of numbered crops with ticks that point to their centres."""
    sheet = Image.new("RGB", (SHEET * (SHOWN + 10), SHEET * (SHOWN + 24)), "white")
    pen = ImageDraw.Draw(sheet)
    middle, end = SHOWN / 2, SHOWN
    ticks = (
        (middle, 0, middle, 8),
        (middle, end - 8, middle, end),
        (0, middle, 8, middle),
        (end - 8, middle, end, middle),
    )
    for i, crop in enumerate(items):
        grey = np.clip((crop - crop.mean()) / crop.std() / 6 + 0.5, 0, 1) * 255
        x, y = (i % SHEET) * (SHOWN + 10), (i // SHEET) * (SHOWN + 24) + 18
        sheet.paste(Image.fromarray(grey.astype(np.uint8)).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), (x, y))
        pen.text((x + 4, y - 15), str(first + i), fill="black")
        for x0, y0, x1, y1 in ticks:
            pen.line((x + x0, y + y0, x + x1, y + y1), fill="#D55E00", width=2)
    return sheet


def make(out: Path, data: Path) -> None:
    """Pick, draw the sheets and write the key."""
    micrographs = convert(data, out / "micrographs")
    subprocess.run([*pick_command([out / "micrographs"], out / "picks", None), "--force"], check=True)
    loaded = load(out / "picks", data / "labels", DIAMETER_PX).micrographs
    rng = np.random.default_rng(SEED)
    pool: dict[str, list[FloatArray]] = {kind: [] for kind in KINDS}
    for compared in loaded:
        path = next(path for path in micrographs if path.stem == compared.name)
        for kind, found in crops(path, compared, rng).items():
            pool[kind] += found
    items = [(kind, pool[kind][i]) for kind in KINDS for i in rng.permutation(len(pool[kind]))[:EACH]]
    items = [items[i] for i in rng.permutation(len(items))]
    for n, first in enumerate(range(0, len(items), SHEET**2), start=1):
        draw([crop for _, crop in items[first : first + SHEET**2]], first + 1).save(out / f"sheet{n}.png")
    (out / "key.json").write_text(json.dumps({str(i + 1): kind for i, (kind, _) in enumerate(items)}))
    print(f"rate {len(items)} crops on {out}/sheet*.png")


def compare(out: Path, ratings: Path) -> None:
    """Count what was called a particle, by kind, and write the result."""
    key, rated = (json.loads(path.read_text()) for path in (out / "key.json", ratings))
    missing = sorted(set(key) - set(rated), key=int)
    if missing:
        sys.exit(f"{ratings}: no rating of {', '.join(missing)}")
    yes = Counter(kind for number, kind in key.items() if rated[number] == "y")
    share = {kind: yes[kind] / EACH for kind in KINDS}
    for kind in KINDS:
        print(f"{kind:16} {yes[kind]:3} of {EACH} called a particle")
    save(__file__, circumstances(sys.argv) | {"crops_per_kind": EACH, "called_particle": share})


def main() -> None:
    """Make the sheets, or compare the ratings with the key."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ratings", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images and labels (README.md)")
    arguments = parser.parse_args()
    if arguments.ratings:
        compare(arguments.out, arguments.ratings)
    else:
        make(arguments.out, arguments.data)


if __name__ == "__main__":
    main()
