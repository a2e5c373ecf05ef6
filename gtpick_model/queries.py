"""Where queries start: at the encoder's best proposals (default), or learned as
in the first DETRs.
"""

import torch
from torch import Tensor, nn

from gtpick_model.attention import token_centres
from gtpick_model.backbone import STRIDE
from gtpick_model.config import ModelConfig
from gtpick_model.heads import DetectionHead, Detections


class ProposalQueries(nn.Module):
    """Every memory cell proposes a particle; each group's queries start from the best proposals.

    Group 0 takes the top of the list. The other groups, present in training only, take the top of
    the list after Gumbel noise, so that they see different candidates.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.head = DetectionHead(config.dim)
        self.content = nn.Linear(config.dim, config.dim)
        self.group = nn.Parameter(torch.zeros(config.groups, config.dim))

    def forward(self, memory: Tensor, groups: int) -> tuple[Tensor, Tensor, Detections]:
        """Memory `(B, N, D)` to content `(B, groups*K, D)`, reference boxes `(B, groups*K, 3)` and
        all proposals.
        """
        side = int(memory.shape[1] ** 0.5)
        count = min(self.config.queries_for(side * STRIDE), memory.shape[1])
        centres = token_centres(side, side, STRIDE, memory)
        anchor = torch.cat((centres, torch.full_like(centres[..., :1], self.config.nominal_diameter_px)), dim=-1)
        proposals = self.head(memory, anchor)
        chosen = [proposals.logits.topk(count, dim=1).indices]
        for _ in range(1, groups):
            noise = -torch.empty_like(proposals.logits).exponential_().clamp_min(1e-9).log()
            chosen.append((proposals.logits + noise).topk(count, dim=1).indices)
        index = torch.cat(chosen, dim=1)[..., None]
        content = self.content(memory.gather(1, index.expand(-1, -1, memory.shape[-1])))
        content = content + self.group[:groups].repeat_interleave(count, dim=0)
        reference = proposals.boxes.gather(1, index.expand(-1, -1, 3)).detach()
        return content, reference, proposals


class LearnedQueries(nn.Module):
    """Content and reference points learned for a fixed number of queries per group, as in
    Conditional DETR.

    References are fractions of the tile, so that a tile of another size uses the same table.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.content = nn.Parameter(torch.randn(config.groups, config.queries, config.dim) * 0.1)
        self.reference = nn.Parameter(torch.rand(config.groups, config.queries, 2) * 4 - 2)

    def forward(self, memory: Tensor, groups: int) -> tuple[Tensor, Tensor, None]:
        """As `ProposalQueries.forward`; there are no proposals."""
        side_px = int(memory.shape[1] ** 0.5) * STRIDE
        batch = memory.shape[0]
        content = self.content[:groups].flatten(0, 1).expand(batch, -1, -1)
        xy = self.reference[:groups].flatten(0, 1).float().sigmoid() * side_px
        diameter = torch.full_like(xy[:, :1], self.config.nominal_diameter_px)
        return content, torch.cat((xy, diameter), dim=-1).expand(batch, -1, -1), None
