"""Image features: a small residual network, one or two transformer encoder layers, and fusion at
stride 8.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtpick_model.attention import EncoderLayer, sine_encoding, token_centres
from gtpick_model.config import ModelConfig

STRIDE = 8
"""Pixels of the tile per cell of the memory."""


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation (folded into it at export) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` to the same shape."""
        return F.relu(x + self.second(self.first(x)))


class Backbone(nn.Module):
    """Tile to memory: the tokens that proposals are made from and that queries attend to."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        half, quarter = config.stem
        eighth, sixteenth = config.width
        at_4, at_8, at_16 = config.blocks
        self.to_4 = nn.Sequential(
            conv(1, half, 5, 2), conv(half, quarter, 3, 2), *(Residual(quarter) for _ in range(at_4))
        )
        self.to_8 = nn.Sequential(conv(quarter, eighth, 3, 2), *(Residual(eighth) for _ in range(at_8)))
        self.to_16 = nn.Sequential(conv(eighth, sixteenth, 3, 2), *(Residual(sixteenth) for _ in range(at_16)))
        self.project = nn.Conv2d(sixteenth, config.dim, 1)
        self.encoder = nn.ModuleList(
            EncoderLayer(config.dim, config.heads, config.feed_forward) for _ in range(config.encoder_layers)
        )
        self.lateral = nn.Conv2d(eighth, config.dim, 1)
        self.fuse = nn.Sequential(conv(config.dim, config.dim), conv(config.dim, config.dim))
        self.norm = nn.LayerNorm(config.dim)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: float32, or float16 in an export in half precision."""
        return self.norm.weight.dtype

    def forward(self, tiles: Tensor) -> Tensor:
        """Tiles `(b, 1, t, t)`, t a multiple of 16, to memory `(b, (t/8)^2, dim)` in row-major cell
        order.
        """
        fine = self.to_8(self.to_4(tiles.to(self.dtype)))
        coarse = self.project(self.to_16(fine))
        rows, columns = coarse.shape[-2:]
        tokens = coarse.flatten(2).transpose(1, 2)
        position = sine_encoding(token_centres(rows, columns, 2 * STRIDE, tokens), tokens.shape[-1]).to(self.dtype)
        for layer in self.encoder:
            tokens = layer(tokens, position)
        coarse = tokens.transpose(1, 2).reshape(coarse.shape)
        fused = self.fuse(self.lateral(fine) + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return self.norm(fused.flatten(2).transpose(1, 2))
