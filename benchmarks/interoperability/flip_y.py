"""Draw what `convert --flip-y` is for, on a micrograph and on its mirrored copy.

    python benchmarks/interoperability/flip_y.py

A simulated micrograph has particles in the shape of an L. It is picked by the public command with
`--formats cs`, then converted with `--flip-y`; both `picks.cs` are drawn on the file that was
picked and on a copy with its rows in the opposite order. Written to docs/flip_y.png, with the
counts in it.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.shared.common import PROGRAM, ROOT
from gtpick_rt.formats.cryosparc import read_cs

PIXEL_SIZE_A, DIAMETER_A = 4.0, 160.0
SHAPE = (420, 560)
L = np.array([[130, 70], [130, 130], [130, 190], [130, 250], [130, 310], [195, 310], [260, 310]])
"""`(n, 2)` centres x, y in pixels."""
Image = NDArray[np.float32]


def simulate(seed: int = 1) -> Image:
    """A micrograph of dark, grainy balls under noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    grain = gaussian_filter(rng.normal(size=SHAPE), 2)
    image = 8 * rng.normal(size=SHAPE)
    for centre in L:
        radius = np.hypot(x - centre[0], y - centre[1]) / (DIAMETER_A / 2 / PIXEL_SIZE_A)
        image -= 5 * np.sqrt(np.clip(1 - radius**2, 0, None)) * (1 + 3 * grain)
    return image.astype(np.float32)


def run(*arguments: object) -> None:
    """Run the public command."""
    command = [PROGRAM, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def pick(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of the picks by `picks.cs`, in pixels: as it is by default, and with --flip-y."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "L.mrc"), Path(folder, "picks")
        with mrcfile.new(path, image) as mrc:
            mrc.voxel_size = PIXEL_SIZE_A
        run("pick", path, "--out", out, "--diameter", DIAMETER_A, "--formats", "cs")
        plain = read_cs(out / "picks.cs").xy_px
        run("convert", out, "--formats", "cs", "--flip-y")
        return plain, read_cs(out / "picks.cs").xy_px


def draw(axes: Any, image: Image, centres: NDArray[np.float64], truth: NDArray[np.int_], title: str) -> None:
    """Draw picks on an image, row 0 on top, and count those that are on a particle."""
    distances = np.hypot(*(centres[:, None] - truth[None]).transpose(2, 0, 1)).min(axis=1)
    hit = distances < 0.25 * DIAMETER_A / PIXEL_SIZE_A
    axes.imshow(gaussian_filter(image, 3), cmap="gray")
    axes.scatter(*centres.T, s=650, facecolors="none", edgecolors=np.where(hit, "limegreen", "red"), linewidths=2)
    axes.set_title(f"{title}: {hit.sum()} of {len(hit)} picks on a particle", fontsize=9)
    axes.set_axis_off()


def take() -> int:
    """Write the picture; returns the number of picks."""
    from matplotlib.figure import Figure

    image = simulate()
    figure = Figure(figsize=(8.4, 6.8), layout="constrained")
    axes = figure.subplots(2, 2)
    mirrored = np.stack([L[:, 0], SHAPE[0] - 1 - L[:, 1]], axis=1)
    found = pick(image)
    for column, (option, centres) in zip(axes.T, zip(("default", "--flip-y"), found, strict=True), strict=True):
        draw(column[0], image, centres, L, f"the file that was picked, {option}")
        draw(column[1], image[::-1], centres, mirrored, f"its mirrored copy, {option}")
    figure.savefig(ROOT / "docs" / "flip_y.png", dpi=75)
    print("written: docs/flip_y.png")
    return len(found[0])


def main() -> None:
    """Write the picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    take()


if __name__ == "__main__":
    main()
