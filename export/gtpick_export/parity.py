"""Proof that an exported model answers as the network does: score error, and agreement of the picks themselves."""

from dataclasses import dataclass

import numpy as np
import torch

from gtpick_model.network import GTPick, Inference
from gtpick_rt.backends.base import Backend
from gtpick_rt.evaluate import match
from gtpick_rt.spec import ModelSpec
from gtpick_rt.types import FloatArray

PICK_RADIUS_PX = 1.0
"""Two picks are the same when their centres are within one working pixel."""


MAX_SCORE_ERROR = 1e-3
MIN_AGREEMENT = 0.995


@dataclass(frozen=True)
class Parity:
    """How far two runs of one model on the same tiles are apart."""

    tiles: int
    max_score_error: float
    """Largest difference of sorted scores, query by query; sorting forgives ties in the choice of queries."""
    reference_picks: int
    picks: int
    matched: int

    @property
    def agreement(self) -> float:
        """Matched picks over the larger number of picks, 1 when both found none."""
        most = max(self.reference_picks, self.picks)
        return self.matched / most if most else 1.0

    @property
    def holds(self) -> bool:
        """Whether the two answer alike: scores within `MAX_SCORE_ERROR`, `MIN_AGREEMENT` of the picks matched."""
        return self.max_score_error <= MAX_SCORE_ERROR and self.agreement >= MIN_AGREEMENT

    def __str__(self) -> str:
        return (
            f"{self.tiles} tiles: scores within {self.max_score_error:.1e}, {self.matched} of "
            f"{max(self.reference_picks, self.picks)} picks matched ({self.agreement:.2%})"
        )


@torch.no_grad()
def compare(network: GTPick, backend: Backend, spec: ModelSpec, tiles: FloatArray) -> Parity:
    """Run `(n, 1, t, t)` tiles through both, one at a time in torch and as one batch in the backend."""
    scores, boxes = backend.infer(tiles)
    inference = Inference(network)
    error, counts = 0.0, np.zeros(3, dtype=int)
    for i in range(len(tiles)):
        want_scores, want_boxes = (x[0].numpy() for x in inference(torch.from_numpy(tiles[i : i + 1])))
        error = float(np.maximum(error, np.abs(np.sort(want_scores) - np.sort(scores[i])).max()))
        want = want_boxes[want_scores >= spec.threshold, :2]
        got = boxes[i][scores[i] >= spec.threshold, :2]
        counts += (len(want), len(got), len(match(got, want, PICK_RADIUS_PX)))
    return Parity(len(tiles), error, *(int(c) for c in counts))
