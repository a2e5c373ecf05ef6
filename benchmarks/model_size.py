"""Parameters and floating-point operations per tile of each variant, counted by PyTorch on one inference pass."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from gtpick_model.config import VARIANTS
from gtpick_model.network import GTPick, Inference


def main() -> None:
    """Print one line per variant."""
    print(f"{'variant':8s} {'parameters':>12s} {'GFLOP per tile':>15s} {'tile':>6s} {'queries':>8s}")
    for name, config in VARIANTS.items():
        network = Inference(GTPick(config))
        parameters = sum(p.numel() for p in network.parameters())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, config.tile_px, config.tile_px))
        flop = counter.get_total_flops()
        print(f"{name:8s} {parameters / 1e6:10.2f} M {flop / 1e9:15.2f} {config.tile_px:6d} {config.queries:8d}")


if __name__ == "__main__":
    main()
