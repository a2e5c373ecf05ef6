"""The GTpick network.

DETR with conditional cross-attention, grouped queries and detection heads.
"""

from typing import NamedTuple

from torch import Tensor, nn

from gtpick_model.attention import (
    ConditionalCrossAttention,
    PlainCrossAttention,
    SelfAttention,
    feed_forward,
    sine_encoding,
    token_centres,
)
from gtpick_model.backbone import STRIDE, Backbone
from gtpick_model.config import ModelConfig
from gtpick_model.heads import DetectionHead, Detections
from gtpick_model.queries import LearnedQueries, ProposalQueries


class Outputs(NamedTuple):
    """All that the loss looks at. Query q of group g stands at g * K + q."""

    layers: list[Detections]
    """One per decoder layer, `(B, groups * K)` detections; the last is the network's answer."""
    proposals: Detections | None
    """One per memory cell, `(B, N)`; None with learned queries."""


class DecoderLayer(nn.Module):
    """Self-attention inside each group, cross-attention to the image, feed-forward;
    all pre-norm.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        cross = ConditionalCrossAttention if config.cross_attention == "conditional" else PlainCrossAttention
        self.self_attention = SelfAttention(config.dim, config.heads)
        self.cross_attention = cross(config.dim, config.heads)
        self.feed_forward = feed_forward(config.dim, config.feed_forward)
        self.norm_self, self.norm_cross, self.norm_feed_forward = (nn.LayerNorm(config.dim) for _ in range(3))

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor, groups: int) -> Tensor:
        """Queries `(B, groups*K, D)`, their position, memory `(B, N, D)` and its position, to new
        queries.
        """
        # Groups become tiles of the batch: no query sees another group.
        alone, alone_position = (t.unflatten(1, (groups, -1)).flatten(0, 1) for t in (self.norm_self(x), position))
        x = x + self.self_attention(alone, alone_position).unflatten(0, (-1, groups)).flatten(1, 2)
        x = x + self.cross_attention(self.norm_cross(x), position, memory, memory_position)
        return x + self.feed_forward(self.norm_feed_forward(x))


class GTPick(nn.Module):
    """Particle detector for one tile.

    Positions, boxes and heads are in float32, whatever the other weights are in.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        source = ProposalQueries if config.query_source == "proposals" else LearnedQueries
        self.queries = source(config)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in range(config.decoder_layers))
        self.heads = nn.ModuleList(DetectionHead(config.dim) for _ in range(config.decoder_layers))

    def forward(self, tiles: Tensor) -> Outputs:
        """Normalised tiles `(B, 1, t, t)`, t a multiple of 16, to detections of every layer.

        All groups in training mode, group 0 alone in evaluation mode.
        """
        groups = self.config.groups if self.training else 1
        memory = self.backbone(tiles)
        x, reference, proposals = self.queries(memory, groups)
        side = int(memory.shape[1] ** 0.5)
        dtype = self.backbone.dtype
        memory_position = sine_encoding(token_centres(side, side, STRIDE, memory), self.config.dim).to(dtype)
        sine = sine_encoding(reference[..., :2], self.config.dim).to(dtype)
        layers = []
        for layer, norm, head in zip(self.decoder, self.norms, self.heads, strict=True):
            x = layer(x, sine, memory, memory_position, groups)
            layers.append(head(norm(x), reference))
        return Outputs(layers, proposals)


class Inference(nn.Module):
    """The network as it is exported: tiles in, scores and boxes out."""

    def __init__(self, network: GTPick) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles `(B, 1, t, t)` to scores `(B, K)` in [0, 1] and boxes `(B, K, 3)` in px of the
        tile.
        """
        answer = self.network(tiles).layers[-1]
        return answer.logits.sigmoid(), answer.boxes
