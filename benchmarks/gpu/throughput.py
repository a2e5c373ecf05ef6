"""Speed on an NVIDIA GPU: the network alone by batch, and the whole pipeline, by backend.

    python benchmarks/gpu/throughput.py [--backends cuda,tensorrt,tensorrt-rtx] [--micrographs 20]

Tiles per second include copying to the GPU and back. Beside the backends stands PyTorch in half
precision, eager and as a CUDA graph, with its tiles on the GPU already. The floors are what nothing
on this card can beat: the FLOP of a tile at the rate of a large half-precision matrix product, and
the weights, once per batch, tiles and answers at the rate of a copy within the GPU; both rates are
measured here. What a backend says that cannot be used is kept word for word.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shared.common import circumstances, save
from gtpick_export.finetuning import shipped_weights
from gtpick_export.half import to_half
from gtpick_model.network import Inference
from gtpick_model.weights import load_weights
from gtpick_rt import Picker
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.bench.energy import energy_meter
from gtpick_rt.bench.measuring import measure
from gtpick_rt.bench.synthetic import write_synthetic
from gtpick_rt.errors import GtpickError
from gtpick_rt.proof.opening import open_picker

BACKENDS = ("cuda", "tensorrt", "tensorrt-rtx")
BATCHES = (1, 8, 32, 64)
WARM_UP, ROUNDS = 5, 30
SIDE_PX, DIAMETER_A = 4096, 160.0
"""Of the synthetic micrographs."""
PRODUCT, COPY_BYTES = 8192, 1 << 30
"""Side of the matrices and size of the copy by which the card is measured."""
PACKAGES = ("onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "cuda-python", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
Run = Callable[[], object]


def seconds_of(run: Run) -> float:
    """Median seconds of a run, the GPU being done before and after."""
    taken = []
    for _ in range(WARM_UP + ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return median(taken[WARM_UP:])


def rates() -> dict[str, float]:
    """What the card reaches: FLOP/s in half precision, bytes/s read and written."""
    a, b = (torch.randn(PRODUCT, PRODUCT, dtype=torch.half, device="cuda") for _ in range(2))
    source, target = (torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
    return {
        "flop_per_s": 2 * PRODUCT**3 / seconds_of(lambda: a @ b),
        "bytes_per_s": 2 * COPY_BYTES / seconds_of(lambda: target.copy_(source)),
    }


def floors(network: Inference, tile_px: int, answer_bytes: int, card: dict[str, float]) -> dict[int, float]:
    """Most tiles per second that the card's rates allow, by batch."""
    tile = torch.zeros(1, 1, tile_px, tile_px, device="cuda")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(tile)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    by_flop = card["flop_per_s"] / counter.get_total_flops()
    per_tile = 4 * tile_px**2 + answer_bytes
    return {n: min(by_flop, n * card["bytes_per_s"] / (weights + n * per_tile)) for n in BATCHES}


@torch.no_grad()
def torch_rates(network: Inference, tile_px: int) -> dict[str, dict[int, float]]:
    """Tiles per second of PyTorch in half precision, by way and batch."""
    found: dict[str, dict[int, float]] = {"torch eager fp16": {}, "torch CUDA graph fp16": {}}
    for n in BATCHES:
        tiles = torch.randn(n, 1, tile_px, tile_px, device="cuda")
        found["torch eager fp16"][n] = n / seconds_of(lambda tiles=tiles: network(tiles))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(tiles)
        found["torch CUDA graph fp16"][n] = n / seconds_of(graph.replay)
    return found


def backend_rates(picker: Picker) -> dict[int, float]:
    """Tiles per second of a backend, by batch."""
    side = picker.spec.tile_px
    noise = np.random.default_rng(0).standard_normal((max(BATCHES), 1, side, side), np.float32)
    return {n: n / seconds_of(lambda n=n: picker.backend.infer(noise[:n])) for n in BATCHES}


def try_backends(names: list[str], micrographs: int, model: str | None) -> dict[str, dict[str, Any]]:
    """Every backend's speed, or its own words why there is none."""
    results: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        write_synthetic(Path(folder), micrographs, SIDE_PX, SIDE_PX, DIAMETER_A)
        jobs = find_jobs([folder]).jobs
        for name in names:
            try:
                with open_picker(DIAMETER_A, model=model, backend=name) as picker:
                    speed = measure(picker, jobs, meter=energy_meter())
                    results[name] = {"tiles_per_s": backend_rates(picker), "pipeline": asdict(speed)}
                results[name]["micrographs_per_s"] = 1 / speed.pipeline_s
                results[name]["efficiency"] = speed.efficiency
            except GtpickError as error:
                results[name] = {"error": f"{type(error).__name__}: {error}"}
    return results


def device() -> dict[str, Any]:
    """The GPU, its driver and the libraries."""
    from gtpick_rt.backends.cuda import driver_version

    properties = torch.cuda.get_device_properties(0)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_GB": round(properties.total_memory / 1e9, 1),
        "driver": driver_version(),
        "torch": torch.__version__,
        "cuda_of_torch": torch.version.cuda,
        "libraries": versions,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--micrographs", type=int, default=20)
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this needs an NVIDIA GPU and a PyTorch with CUDA; gtpick-rt doctor tells what is here")
    spec = open_picker(DIAMETER_A, model=arguments.model, backend="cpu").spec
    network = Inference(to_half(load_weights(shipped_weights())[0])).cuda().eval()
    card = rates()
    most = floors(network, spec.tile_px, 4 * 4 * spec.queries, card)
    backends = try_backends(arguments.backends.split(","), arguments.micrographs, arguments.model)
    speeds = torch_rates(network, spec.tile_px)
    speeds |= {name: found["tiles_per_s"] for name, found in backends.items() if "tiles_per_s" in found}
    shares = {name: {n: rate / most[n] for n, rate in by_batch.items()} for name, by_batch in speeds.items()}
    print(f"{'tiles/s in batches of':24}" + "".join(f"{n:>18}" for n in BATCHES))
    for name, by_batch in speeds.items():
        print(f"{name:24}" + "".join(f"{by_batch[n]:9.0f} ({shares[name][n]:6.1%})" for n in BATCHES))
    for name, found in backends.items():
        print(f"{name}: " + found.get("error", f"{found.get('micrographs_per_s', 0):.2f} micrographs/s"))
    result = {
        "model": spec.name,
        "device_gpu": device(),
        "card": card,
        "most_tiles_per_s": most,
        "tiles_per_s": speeds,
        "share_of_most": shares,
        "backends": backends,
    }
    save(__file__, circumstances(sys.argv) | result)


if __name__ == "__main__":
    main()
