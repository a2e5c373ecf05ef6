"""Does preprocessing as a graph give what the processor gives, and the same picks, on real images?

    python benchmarks/gpu/preprocessing.py --data DATA [--micrographs 2]

Runs the graph in ONNX Runtime on the CPU, in float32 and on the same pixels in float16, beside
NumPy; on so many micrographs of each real set. Then both working images are picked. The same picks
are those with centres within one hundredth of a working pixel and scores within 0.001.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.shared.common import DATA, circumstances, save
from gtpick_export.preprocessing import OUTPUTS, export_preprocessing, feeds
from gtpick_rt import Micrograph, Picker
from gtpick_rt.evaluate.matching import match
from gtpick_rt.proof.opening import open_picker

SETS = {
    "empiar10017": (1.77, 191.0),
    "empiar10028": (5.36, 300.0),
    "empiar10059": (4.5, 160.0),
    "empiar10947": (3.0, 150.0),
}
"""Pixel size and diameter in Å; of the last neither is stated."""
KINDS: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")
SAME_PX, SAME_SCORE = 0.01, 1e-3


def compare(picker: Picker, session: Any, micrograph: Micrograph) -> dict[str, Any]:
    """One micrograph by both."""
    wanted = picker.prepare(micrograph)
    given = feeds(micrograph, picker.diameter_A, picker.spec, picker.contrast)
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), given), strict=True))
    image = replace(wanted, data=found["data"], coarse=found["coarse"])
    mine, theirs = (picker.assemble(each, picker.infer(each)) for each in (image, wanted))
    pairs = match(mine.xy_px, theirs.xy_px, SAME_PX * picker.diameter_A / micrograph.pixel_size_A / 24)
    same = np.abs(mine.score[pairs[:, 0]] - theirs.score[pairs[:, 1]]) <= SAME_SCORE
    return {
        "plain": bool(found["plain"]),
        "data": float(np.abs(found["data"] - wanted.data).max()),
        "coarse": float(np.abs(found["coarse"] - wanted.coarse).max()),
        "detections": len(theirs),
        "same": int(same.sum()) if len(mine) == len(theirs) else 0,
    }


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA.parent, help="the folder of the sets (benchmarks/README.md)")
    parser.add_argument("--micrographs", type=int, default=2, help="of each set")
    arguments = parser.parse_args()
    opened, rows = open_picker(100.0, backend="cpu"), []
    with TemporaryDirectory() as folder:
        sessions = {}
        for kind in KINDS:
            export_preprocessing(opened.spec, kind, Path(folder) / f"{kind}.onnx")
            sessions[kind] = onnxruntime.InferenceSession(Path(folder) / f"{kind}.onnx")
        for name, (pixel_size_A, diameter_A) in SETS.items():
            picker = Picker(opened.backend, opened.spec, diameter_A)
            for path in sorted((arguments.data / name / "images").iterdir())[: arguments.micrographs]:
                pixels = np.asarray(Image.open(path).convert("F"), np.float32)
                pixels = (pixels - pixels.mean()) / pixels.std()
                for kind in KINDS:
                    row = compare(picker, sessions[kind], Micrograph(pixels.astype(kind), pixel_size_A, path))
                    rows.append({"set": name, "micrograph": path.name, "pixels": kind, **row})
                    print(rows[-1], flush=True)
    save(__file__, circumstances(sys.argv) | {"same_px": SAME_PX, "same_score": SAME_SCORE, "micrographs": rows})


if __name__ == "__main__":
    main()
