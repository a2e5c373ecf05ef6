"""Does TensorRT-RTX build every variant, in single and half precision, and how large?

Exports each variant with random weights (neither time nor size depends on them), builds it on the
CPU for batches of 1, 8 and 32, and counts floating-point tensors. Nothing is run: that needs a GPU.
"""

import argparse
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.shared.common import circumstances, save
from gtpick_export.half import export_half
from gtpick_export.to_onnx import export_onnx, make_spec
from gtpick_model.config import VARIANTS
from gtpick_model.network import GTPick
from gtpick_rt.backends.engines.building import build, read_onnx
from gtpick_rt.backends.engines.profiles import PROFILE

UNCALIBRATED = {"threshold": "0.5", "calibration_slope": "1", "calibration_offset": "0"}


def measure(variant: str, precision: str, folder: Path, times: int) -> dict[str, Any]:
    """Export one variant, build its engine several times and say what came of it."""
    torch.manual_seed(0)
    network = GTPick(VARIANTS[variant]).eval()
    path = folder / f"{variant}{'.fp16' if precision == 'fp16' else ''}.onnx"
    export = export_half if precision == "fp16" else export_onnx
    export(network, make_spec(network, variant, "1", UNCALIBRATED), path)
    content = read_onnx(path)
    builds = [build(path, content, "tensorrt-rtx", PROFILE) for _ in range(times)]
    return {
        "variant": variant,
        "precision": precision,
        "half_share": builds[0].half_share,
        "layers": len(builds[0].layers),
        "build_seconds": [each.seconds for each in builds],
        "median_build_seconds": median(each.seconds for each in builds),
        "onnx_bytes": len(content),
        "engine_bytes": len(builds[0].plan),
    }


def main() -> None:
    """Print one line per variant and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="builds of each, of which the median is printed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # torch.onnx of torch 2.13 uses what torch itself has deprecated
    print(
        f"{'variant':8s} {'types':>5s} {'half':>7s} {'layers':>7s} {'build s':>8s} {'ONNX MB':>8s} {'engine MB':>10s}"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            for precision in ("fp32", "fp16"):
                row = measure(variant, precision, Path(folder), arguments.times)
                print(
                    f"{variant:8s} {precision:>5s} {row['half_share']:7.1%} {row['layers']:7d} "
                    f"{row['median_build_seconds']:8.1f} {row['onnx_bytes'] / 1e6:8.1f} "
                    f"{row['engine_bytes'] / 1e6:10.1f}"
                )
                rows.append(row)
    run = circumstances(sys.argv)
    run["versions"] |= {name: version(name) for name in ("tensorrt-rtx", "torch", "onnx")}
    save(__file__, {**run, "batches": PROFILE.batches, "engines": rows})


if __name__ == "__main__":
    main()
