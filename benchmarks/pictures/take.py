"""Every picture of README and docs, from one command.

    make pictures DATA=DIR

DIR holds `empiar10028/images/*.png`: micrographs of EMPIAR-10028, 1024 x 1024, 5.36 Å per pixel,
and `empiar10059/` as benchmarks/accuracy/prepare_real.py reads it: to these the network of
simulation alone, which has never seen them, adapts itself, in about five minutes on two cores; and
`structures/`, of which one is simulated, picked and classified by RELION, in another ten. Without
DIR the pictures of them stay as they are. The sample is picked, a run of simulated micrographs is
watched by the monitor and told by the report in Chromium, `flip_y.py` is run, and every plot is
drawn from the figures that the benchmarks keep.
What the pictures show stands in docs/pictures.json; tests compare it with what the present model
gives.
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

from benchmarks.accuracy.prepare_real import prepare
from benchmarks.interoperability import flip_y, relion_classes
from benchmarks.pictures.plots import draw_all
from benchmarks.shared.common import PROGRAM, ROOT, SIMULATED_ALONE, pick_command
from benchmarks.speed import monitor_screenshots
from gtpick_model.real.specimens import read_specimen
from gtpick_rt.models.files import resolve_model

DOCS = ROOT / "docs"
SIDECAR = DOCS / "pictures.json"
SIDE_PX = 720
SAMPLE, SAMPLE_FIRST, SAMPLE_DIAMETER_A = "sample", "sim_0000", 214.0
RIBOSOMES, RIBOSOMES_PIXEL_SIZE_A, RIBOSOMES_DIAMETER_A = "061_10028", 5.36, 300.0
ADAPTED_TO, LONGEST_MIN, GAP_PX = "empiar10059", 60, 16
OF_OTHERS = {"adapted.jpg": SIMULATED_ALONE}
"""Pictures of another model than the one that ships."""


def picked(path: Path, stem: str, diameter_A: float, model: Path | None = None) -> tuple[Image.Image, int]:
    """Pick a micrograph, or a folder, by the public command: the overlay of a micrograph, and the
    number of its picks.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "picks"
        command = [*pick_command([path], out, model and str(model), diameter_A), "--overlays"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = json.loads((out / "summary.json").read_text())["micrographs"]
        (picks,) = (record["picks"] for record in records if record["stem"] == stem)
        return Image.open(io.BytesIO((out / "overlays" / f"{stem}.png").read_bytes())), picks


def save(overlay: Image.Image, name: str, side_px: int = SIDE_PX) -> None:
    """Write a JPEG of at most `side_px` a side."""
    overlay.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
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


def take_adapted(data: Path) -> dict[str, Any]:
    """A micrograph of EMPIAR-10059 as the network without labels picks it, and right of that
    as it does when it has adapted itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        specimen = prepare(data, Path(folder), ADAPTED_TO)
        diameter_A = read_specimen(specimen).diameter_A
        micrographs, before, after = sorted(specimen.glob("*.mrc")), specimen / "before.onnx", specimen / "after.onnx"
        learn = [f"--diameter={diameter_A:g}", f"--weights={SIMULATED_ALONE}", f"--minutes={LONGEST_MIN}"]
        for command in (["export", SIMULATED_ALONE, before], ["adapt", *micrographs, *learn, f"--out={after}"]):
            subprocess.run([PROGRAM, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        first = micrographs[0]
        (left, few), (right, many) = (picked(first, first.stem, diameter_A, model) for model in (before, after))
    both = Image.new("RGB", (left.width + GAP_PX + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + GAP_PX, 0))
    save(both, "adapted.jpg", 3 * SIDE_PX // 2)
    return {"of": f"EMPIAR-10059, {first.stem}", "diameter_A": diameter_A, "picks": [few, many]}


def model_sha256(name: str) -> str:
    """Of the model by which the picture of this name must be taken."""
    return hashlib.sha256((OF_OTHERS.get(name) or resolve_model(None)).read_bytes()).hexdigest()


def note(taken: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down what the pictures show, and by which model."""
    known = json.loads(SIDECAR.read_text()) if SIDECAR.exists() else {}
    known |= {name: {**what, "model_sha256": model_sha256(name)} for name, what in taken.items()}
    SIDECAR.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the public micrographs")
    arguments = parser.parse_args()
    note({"sample.jpg": take_sample()})
    if arguments.data is not None:
        note({"ribosomes.jpg": take_ribosomes(arguments.data)})
        note({"adapted.jpg": take_adapted(arguments.data)})
        note({relion_classes.PICTURE.name: relion_classes.take(arguments.data / "structures")})
    note(monitor_screenshots.take(DOCS))
    draw_all()
    note({"flip_y.png": {"of": "simulated balls", "picks": flip_y.take()}})


if __name__ == "__main__":
    main()
