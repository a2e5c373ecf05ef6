"""Does a shipped ONNX file answer as the trained network does, on tiles of real micrographs?

Cuts tiles from EMPIAR-10017 as `pick` does, runs them through PyTorch and through ONNX Runtime, and
compares the sorted scores of each tile and the picks at the default threshold (the same pick:
centres within one working pixel).
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.shared.common import DATA, DIAMETER_A, ROOT, circumstances, convert, save
from gtpick_export.parity import compare
from gtpick_model.weights import load_weights
from gtpick_rt import read_micrograph
from gtpick_rt.detection.tile import cut, tile_grid
from gtpick_rt.proof.opening import open_picker


def main() -> None:
    """Compare one pair of files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--micrographs", type=int, default=3)
    parser.add_argument("--model", default="gtpick-nano", help="name of a shipped model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, _ = load_weights(ROOT / "gtpick_model" / "trained" / f"{arguments.model}.safetensors")
    picker = open_picker(DIAMETER_A, model=arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        images = [
            picker.prepare(read_micrograph(path, None)).data
            for path in convert(arguments.data, Path(folder))[: arguments.micrographs]
        ]
    tiles = cut([(image, tile) for image in images for tile in tile_grid(image.shape, picker.spec)], picker.spec)
    parity = compare(network, picker.backend, picker.spec, tiles)
    print(parity)
    result = {
        "model": picker.spec.name,
        "version": picker.spec.version,
        **asdict(parity),
        "agreement": parity.agreement,
        "torch": torch.__version__,
    }
    save(__file__, {**circumstances(sys.argv), **result})


if __name__ == "__main__":
    main()
