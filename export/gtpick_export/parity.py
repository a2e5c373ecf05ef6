"""Proof that an exported model answers as the network does: score error, and agreement of the picks themselves."""

import numpy as np
import torch

from gtpick_model.network import GTPick, Inference
from gtpick_rt.backends.base import Backend
from gtpick_rt.decode import calibrate
from gtpick_rt.evaluate import match
from gtpick_rt.parity import MIN_AGREEMENT, PICK_RADIUS_PX, Parity, rows_alike
from gtpick_rt.spec import ModelSpec
from gtpick_rt.types import FloatArray

MAX_SCORE_ERROR = 1e-3
"""Of an export in float32; one in lower precision is judged by its picks."""
MIN_AGREEMENT_INT8 = 0.98
"""Below what `Parity.holds` asks for: 8 bits do not reach it."""


def answers_alike(parity: Parity, precision: str) -> bool:
    """Whether an export in "fp32", "fp16" or "int8" is as close to the network as its precision allows."""
    if precision == "int8":
        return parity.agreement >= MIN_AGREEMENT_INT8
    return parity.holds and (precision != "fp32" or parity.max_score_error <= MAX_SCORE_ERROR)


@torch.no_grad()
def compare(network: GTPick, backend: Backend, spec: ModelSpec, tiles: FloatArray) -> Parity:
    """Run `(n, 1, t, t)` tiles through both, one at a time in torch and as one batch in the backend."""
    scores, boxes = backend.infer(tiles)
    inference = Inference(network)
    error, drifts, counts = 0.0, list[FloatArray](), np.zeros(3, dtype=int)
    for i in range(len(tiles)):
        want_scores, want_boxes = (x[0].numpy() for x in inference(torch.from_numpy(tiles[i : i + 1])))
        error = float(np.maximum(error, np.abs(np.sort(want_scores) - np.sort(scores[i])).max()))
        want = want_boxes[calibrate(want_scores, spec) >= spec.threshold, :2]
        got = boxes[i][calibrate(scores[i], spec) >= spec.threshold, :2]
        pairs = match(got, want, PICK_RADIUS_PX)
        counts += (len(want), len(got), len(pairs))
        drifts.append(np.linalg.norm(got[pairs[:, 0]] - want[pairs[:, 1]], axis=1))
    drift = float(np.quantile(np.concatenate(drifts), MIN_AGREEMENT, method="higher")) if counts[2] else 0.0
    reference_picks, picks, matched = (int(count) for count in counts)
    alike = rows_alike(backend, spec, tiles[0])
    return Parity(len(tiles), error, reference_picks, picks, matched, drift, alike)
