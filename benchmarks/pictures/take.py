"""Every picture of README and docs that shows what the program does, from one command.

    make pictures DATA=DIR

DIR holds `empiar10028/images/*.png`: micrographs of EMPIAR-10028, 1024 x 1024, 5.36 Å per pixel.
Without it the picture of them stays as it is. The sample is picked, a run of simulated micrographs
is watched by the monitor and told by the report in Chromium, and `flip_y.py` is run. What the
pictures show stands in docs/pictures.json; a test compares it with what the present model gives.
"""

import argparse
import hashlib
import io
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from PIL import Image

from benchmarks.interoperability import flip_y
from benchmarks.shared.common import ROOT, pick_command
from benchmarks.speed import monitor_screenshots
from gtpick_rt.models.files import resolve_model

DOCS = ROOT / "docs"
SIDECAR = DOCS / "pictures.json"
SIDE_PX = 720
SAMPLE, SAMPLE_FIRST, SAMPLE_DIAMETER_A = "sample", "sim_0000", 214.0
RIBOSOMES, RIBOSOMES_PIXEL_SIZE_A, RIBOSOMES_DIAMETER_A = "061_10028", 5.36, 300.0


def picked(path: Path, stem: str, diameter_A: float) -> tuple[Image.Image, int]:
    """Pick a micrograph, or a folder, by the public command: the overlay of a micrograph, and the
    number of its picks.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "picks"
        command = [*pick_command([path], out, None, diameter_A), "--overlays"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = json.loads((out / "summary.json").read_text())["micrographs"]
        (picks,) = (record["picks"] for record in records if record["stem"] == stem)
        return Image.open(io.BytesIO((out / "overlays" / f"{stem}.png").read_bytes())), picks


def save(overlay: Image.Image, name: str) -> None:
    """Write a JPEG of at most `SIDE_PX` a side."""
    overlay.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    overlay.convert("RGB").save(DOCS / name, quality=85, optimize=True)
    print(f"written: docs/{name}, {(DOCS / name).stat().st_size // 1000} kB")


def take_sample() -> dict[str, Any]:
    """The first micrograph of sample/, as `make pick` picks it."""
    overlay, picks = picked(ROOT / SAMPLE, SAMPLE_FIRST, SAMPLE_DIAMETER_A)
    save(overlay, "sample.jpg")
    return {"of": f"{SAMPLE}/{SAMPLE_FIRST}.mrc", "diameter_A": SAMPLE_DIAMETER_A, "picks": picks}


def take_ribosomes(data: Path) -> dict[str, Any]:
    """A micrograph of EMPIAR-10028."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{RIBOSOMES}.mrc"
        with Image.open(data / "empiar10028" / "images" / f"{RIBOSOMES}.png") as image, mrcfile.new(path) as mrc:
            mrc.set_data(np.asarray(image.convert("F"), np.float32))
            mrc.voxel_size = RIBOSOMES_PIXEL_SIZE_A
        overlay, picks = picked(path, RIBOSOMES, RIBOSOMES_DIAMETER_A)
    save(overlay, "ribosomes.jpg")
    return {"of": f"EMPIAR-10028, {RIBOSOMES}", "diameter_A": RIBOSOMES_DIAMETER_A, "picks": picks}


def note(taken: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down what the pictures show, and by which model."""
    sha256 = hashlib.sha256(resolve_model(None).read_bytes()).hexdigest()
    known = json.loads(SIDECAR.read_text()) if SIDECAR.exists() else {}
    known |= {name: {**what, "model_sha256": sha256} for name, what in taken.items()}
    SIDECAR.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the public micrographs")
    arguments = parser.parse_args()
    note({"sample.jpg": take_sample()})
    if arguments.data is not None:
        note({"ribosomes.jpg": take_ribosomes(arguments.data)})
    note(monitor_screenshots.take(DOCS))
    note({"flip_y.png": {"of": "simulated balls", "picks": flip_y.take()}})


if __name__ == "__main__":
    main()
