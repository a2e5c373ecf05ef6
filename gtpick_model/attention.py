"""Attention as GTpick uses it.

B = tiles, Q = queries, N = memory tokens, D = model width, H = heads. Attention is written out as
MatMul and Softmax: these reach ONNX and TensorRT without plugins.
"""

import torch
from torch import Tensor, nn

LONGEST_PERIOD_PX = 640.0
SHORTEST_PERIOD_PX = 12.0


def token_centres(rows: int, columns: int, stride: int, like: Tensor) -> Tensor:
    """Pixel centres `(1, rows * columns, 2)` (x, y) of the cells of a feature map, on the device of
    `like`.
    """
    y = (torch.arange(rows, device=like.device, dtype=torch.float32) + 0.5) * stride - 0.5
    x = (torch.arange(columns, device=like.device, dtype=torch.float32) + 0.5) * stride - 0.5
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((xx.flatten(), yy.flatten()), dim=-1)[None]


def sine_encoding(xy_px: Tensor, dim: int) -> Tensor:
    """Sines and cosines of coordinates in px `(..., 2)`, to `(..., dim)`; the same in a tile of any
    size.
    """
    count = dim // 4
    steps = torch.arange(count, device=xy_px.device, dtype=torch.float32) / max(count - 1, 1)
    period = SHORTEST_PERIOD_PX * (LONGEST_PERIOD_PX / SHORTEST_PERIOD_PX) ** steps
    angle = xy_px[..., None] * (2 * torch.pi / period)  # (..., 2, count)
    return torch.cat((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Softmax attention: query `(B, Q, Dq)`, key `(B, N, Dq)`, value `(B, N, D)` to `(B, Q, D)`."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    weight = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1)
    return (weight @ v).transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Attention among tokens; position is added to queries and keys, not to values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Tokens `(B, Q, D)` with position `(1 or B, Q, D)` to `(B, Q, D)`."""
        placed = x + position
        return self.out(attend(self.query(placed), self.key(placed), self.value(x), self.heads))


class ConditionalCrossAttention(nn.Module):
    """Queries look at the image with content and position decoupled (GTpick's first contribution).

    Per head, content and position are concatenated, not added, so the weight is a sum of a content
    and a position product. The query's position is its reference point's sine code, scaled by a
    vector that its content predicts.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_content, self.query_position, self.key_content, self.key_position, self.value, self.out = (
            nn.Linear(dim, dim) for _ in range(6)
        )
        self.scale = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        """Queries `(B, Q, D)` with position, memory `(B, N, D)` with position `(1, N, D)`, to `(B,
        Q, D)`.
        """
        query = self._join(self.query_content(x), self.query_position(self.scale(x) * position))
        memory_code = self.key_position(memory_position).expand(memory.shape[0], -1, -1)
        key = self._join(self.key_content(memory), memory_code)
        return self.out(attend(query, key, self.value(memory), self.heads))

    def _join(self, content: Tensor, position: Tensor) -> Tensor:
        parts = [part.unflatten(-1, (self.heads, -1)) for part in (content, position)]
        return torch.cat(parts, dim=-1).flatten(-2)


class PlainCrossAttention(nn.Module):
    """DETR's cross-attention: position added to content. Kept for the ablation table."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        """As `ConditionalCrossAttention.forward`."""
        query, key = self.query(x + position), self.key(memory + memory_position)
        return self.out(attend(query, key, self.value(memory), self.heads))


def feed_forward(dim: int, hidden: int) -> nn.Sequential:
    """The two linear layers after attention."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class EncoderLayer(nn.Module):
    """Pre-norm transformer encoder layer over image tokens."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.feed_forward = feed_forward(dim, hidden)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Tokens `(B, N, D)` with position `(1, N, D)` to `(B, N, D)`."""
        x = x + self.attention(self.norm_attention(x), position)
        return x + self.feed_forward(self.norm_feed_forward(x))
