"""What a GTpick network is made of, and the three sizes in which it is trained."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. Lengths are in working pixels: particles have a nominal diameter of 24 px."""

    name: str
    stem: tuple[int, int]
    """Channels at strides 2 and 4."""
    blocks: tuple[int, int, int]
    """Residual blocks at strides 4, 8 and 16."""
    width: tuple[int, int]
    """Channels at strides 8 and 16."""
    dim: int
    """Width of queries and memory."""
    heads: int = 4
    feed_forward: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 2
    groups: int = 3
    """Query groups in training; group 0 alone is used at inference."""
    tile_px: int = 256
    """Tile at inference."""
    queries: int = 512
    """Queries per group in a tile of `tile_px`: more than the densest packing of the smallest
    particles accepted."""
    query_source: Literal["proposals", "learned"] = "proposals"
    cross_attention: Literal["conditional", "plain"] = "conditional"
    classification: Literal["focal", "cross_entropy"] = "focal"
    nominal_diameter_px: float = 24.0
    highpass_px: int = 97
    """Width of the background box: about four particles."""
    clip: float = 6.0

    def queries_for(self, tile_px: int) -> int:
        """Queries per group for a tile of another size: the same number per area."""
        return max(16, round(self.queries * (tile_px / self.tile_px) ** 2))


NANO = ModelConfig(name="nano", stem=(24, 48), blocks=(1, 2, 2), width=(64, 96), dim=96)
SMALL = replace(NANO, name="small", blocks=(1, 3, 3), width=(96, 144), dim=128, feed_forward=384, decoder_layers=3)
BASE = replace(
    NANO,
    name="base",
    stem=(32, 64),
    blocks=(2, 4, 4),
    width=(144, 224),
    dim=192,
    heads=6,
    feed_forward=768,
    encoder_layers=2,
    decoder_layers=3,
)
VARIANTS = {config.name: config for config in (NANO, SMALL, BASE)}
