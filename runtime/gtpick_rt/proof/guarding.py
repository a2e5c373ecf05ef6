"""A backend on a GPU is looked at while it works: a known tile among the batches.

A proof is of the process in which it was made. Kernels, graphs and memory of this one are seen to
be sound by its own answers, in batches of all sizes: at opening, up and down, and again after every
`EVERY` calls.
"""

from contextlib import closing
from pathlib import Path

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.backends.engines.building import PROFILE
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.errors import ModelError, UnlikeError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import SAMPLE
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import MAX_DRIFT_PX, sample_tiles
from gtpick_rt.types import FloatArray

EVERY = 100
"""Calls after which the known tile is shown again; a call is of up to 64 tiles."""


class Guarded:
    """A backend that stops when it does not answer a known tile as the reference does.

    The tile is `(1, 1, tile_px, tile_px)`, `expected` the reference's scores `(1, queries)` and
    boxes `(1, queries, 3)`. Raises UnlikeError.
    """

    def __init__(
        self, backend: Backend, spec: ModelSpec, tile: FloatArray, expected: tuple[FloatArray, FloatArray]
    ) -> None:
        self.backend, self.name, self.on_cpu = backend, backend.name, backend.on_cpu
        self._spec, self._tile, self._expected = spec, tile, _picks(spec, *expected)[0]
        self._calls = 0
        for size in (*PROFILE.batches, *reversed(PROFILE.batches)):
            self._look(size)

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        answers = self.backend.infer(tiles)
        self._calls += 1
        if self._calls % EVERY == 0:
            for size in PROFILE.batches:
                self._look(size)
        return answers

    def close(self) -> None:
        """Close the backend; see `Backend.close`."""
        self.backend.close()

    def _look(self, size: int) -> None:
        """Show the tile in every row of a batch."""
        rows = _picks(self._spec, *self.backend.infer(np.repeat(self._tile, size, axis=0)))
        if not all(_alike(self._expected, row) for row in rows):
            doubt = f"; what was picked in the last {EVERY} calls is in doubt" if self._calls else ""
            raise UnlikeError(
                f"{self.name} answers a known tile, in batches of {size}, otherwise than the reference{doubt}: pick "
                "again with --force --backend cpu, and report it"
            )


def guard(backend: Backend, model: Path) -> Guarded:
    """Guard a backend that has `model` open, by the tile of the sample with the most picks.

    Raises UnlikeError, and ModelError where the model picks nothing on the sample.
    """
    reference = OnnxRuntimeCpu()
    spec = reference.open(model)
    tiles = sample_tiles(spec)
    with closing(reference):
        scores, boxes = reference.infer(tiles)
    picks = (calibrate(scores, spec) >= spec.threshold).sum(axis=1)
    if not picks.any():
        raise ModelError(f"{spec.name} finds nothing on {SAMPLE.name}: by that a backend cannot be guarded")
    best = int(picks.argmax())
    part = slice(best, best + 1)
    return Guarded(backend, spec, tiles[part], (scores[part], boxes[part]))


def _picks(spec: ModelSpec, scores: FloatArray, boxes: FloatArray) -> list[FloatArray]:
    """Centres `(n, 2)` of the picks in each row."""
    kept = calibrate(scores, spec) >= spec.threshold
    return [row[picked, :2] for row, picked in zip(boxes, kept, strict=True)]


def _alike(wanted: FloatArray, got: FloatArray) -> bool:
    """Whether these are the same picks."""
    return len(wanted) == len(got) == len(match(got, wanted, MAX_DRIFT_PX))
