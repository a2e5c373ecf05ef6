"""Proof that an exported model answers as the network does: score error, and agreement of the picks
themselves.
"""

from collections.abc import Callable

import numpy as np
import torch

from gtpick_model.network import GTPick, Inference
from gtpick_rt.backends.base import Backend
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import Parity, parity_of, rows_alike
from gtpick_rt.types import FloatArray

MAX_SCORE_ERROR = 1e-3
"""Of an export in float32; one in lower precision is judged by its picks."""
EIGHT_BITS = ("int8", "fp8")
"""Precisions to try out."""
MIN_AGREEMENT_8_BITS = 0.98
"""Below what `Parity.holds` asks for: 8 bits do not reach it."""


def answers_alike(parity: Parity, precision: str) -> bool:
    """Whether an export in "fp32", "fp16", "int8" or "fp8" is as close to the network as its
    precision allows.
    """
    if precision in EIGHT_BITS:
        return parity.agreement >= MIN_AGREEMENT_8_BITS
    return parity.holds and (precision != "fp32" or parity.max_score_error <= MAX_SCORE_ERROR)


@torch.no_grad()
def compare(
    network: GTPick,
    backend: Backend,
    spec: ModelSpec,
    tiles: FloatArray,
    on_tile: Callable[[int, int], None] = lambda done, of: None,
) -> Parity:
    """Run `(n, 1, t, t)` tiles through both, one at a time in torch and as one batch in the
    backend; `on_tile` is told of the tiles done, and of how many there are.
    """
    scores, boxes = backend.infer(tiles)
    inference, wanted = Inference(network), []
    for done, tile in enumerate(tiles, start=1):
        wanted.append([answer[0].numpy() for answer in inference(torch.from_numpy(tile[None]))])
        on_tile(done, len(tiles))

    def centres(scores: FloatArray, boxes: FloatArray) -> FloatArray:
        return boxes[calibrate(scores, spec) >= spec.threshold, :2]

    pairs = [(centres(*want), centres(*got)) for want, got in zip(wanted, zip(scores, boxes, strict=True), strict=True)]
    expected = np.stack([want_scores for want_scores, _ in wanted])
    return parity_of(expected, scores, pairs, rows_alike(backend, spec, tiles[0]))
