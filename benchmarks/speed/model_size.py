"""Parameters and floating-point operations per tile of each variant, counted by PyTorch."""

import argparse
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shared.common import circumstances, save
from gtpick_model.config import VARIANTS, ModelConfig
from gtpick_model.network import GTPick, Inference


def size(config: ModelConfig) -> dict[str, float]:
    """Figures of one variant, with random weights."""
    network = Inference(GTPick(config))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, config.tile_px, config.tile_px))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flop_per_tile": counter.get_total_flops(),
        "tile_px": config.tile_px,
        "queries": config.queries,
    }


def main() -> None:
    """Count, print one line per variant and write."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = {name: size(config) for name, config in VARIANTS.items()}
    for name, figures in found.items():
        parameters, flop = figures["parameters"] / 1e6, figures["flop_per_tile"] / 1e9
        print(f"{name:8} {parameters:.2f} M parameters, {flop:.2f} GFLOP per tile of {figures['tile_px']} px")
    save(__file__, circumstances(sys.argv) | {"torch": torch.__version__, "variants": found})


if __name__ == "__main__":
    main()
