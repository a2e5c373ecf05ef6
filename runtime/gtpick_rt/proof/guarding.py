"""A backend on a GPU is looked at while it works: a known tile among the batches.

A proof is of the process in which it was made. Kernels, graphs and memory of this one are seen to
be sound by its own answers, in batches of all sizes: at opening, up and down, and again after every
`EVERY` calls.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gtpick_rt.backends.base import Answers, Backend, Tiles
from gtpick_rt.backends.engines.profiles import PROFILE
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.detection.decode import decode
from gtpick_rt.detection.merge import merge
from gtpick_rt.detection.tile import Tile
from gtpick_rt.errors import ModelError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import SAMPLE, sample_sha256
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import MAX_DRIFT_PX, sample_tiles
from gtpick_rt.proof.refusing import refusal
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
        self._spec, self._tile, self._expected = spec, tile, _seen(spec, expected[0][0], expected[1][0])
        self._calls = 0
        for size in (*PROFILE.batches, *reversed(PROFILE.batches)):
            self._look(size)

    def infer(self, tiles: FloatArray) -> Answers:
        """Run `(n, 1, tile_px, tile_px)` tiles; see `Backend.infer`."""
        return self.collect(self.submit(Tiles.of(tiles)))

    def submit(self, tiles: Tiles) -> Any:
        """Begin with tiles; see `Backend.submit`."""
        return self.backend.submit(tiles)

    def collect(self, submitted: Any) -> Answers:
        """Wait for the answers to what was submitted; see `Backend.collect`."""
        answers = self.backend.collect(submitted)
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
        answers = self.backend.infer(np.repeat(self._tile, size, axis=0))
        rows = [_seen(self._spec, scores, boxes) for scores, boxes in zip(*answers, strict=True)]
        others = [number for number, row in enumerate(rows) if not self._expected.is_like(row)]
        if others:
            doubt = f"; what was picked in the last {EVERY} calls is in doubt" if self._calls else ""
            seen = {"rows": others, "wanted": self._expected.report(), "got": rows[others[0]].report()}
            raise refusal(
                self.name,
                f"{self.name} answers a known tile, in batches of {size}, otherwise than the reference{doubt}: pick "
                "again with --force --backend cpu",
                {"model": self._spec.name, "model_version": self._spec.version, "sample_sha256": sample_sha256()},
                {"check": "a known tile", "batch": size, "calls": self._calls, **seen},
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
    picks = [len(_seen(spec, *answer).clear) for answer in zip(scores, boxes, strict=True)]
    if not any(picks):
        raise ModelError(f"{spec.name} finds nothing on {SAMPLE.name}: by that a backend cannot be guarded")
    best = int(np.argmax(picks))
    part = slice(best, best + 1)
    return Guarded(backend, spec, tiles[part], (scores[part], boxes[part]))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What was found in the middle of a tile."""

    clear: FloatArray
    """Centres `(n, 2)` of picks, well away from the tile's rim."""
    any: FloatArray
    """Centres `(m, 2)` of all detections, up to the rim: what is clear in one run may be fainter in
    another."""

    def is_like(self, other: "_Seen") -> bool:
        """Whether each has the clear picks of the other."""
        return _found(self.clear, other.any) and _found(other.clear, self.any)

    def report(self) -> dict[str, Any]:
        """All centres, for a file."""
        return {"clear": self.clear.tolist(), "any": self.any.tolist()}


def _seen(spec: ModelSpec, scores: FloatArray, boxes: FloatArray) -> _Seen:
    """Look at the answer to one tile, scores `(queries,)` and boxes `(queries, 3)`."""
    core = (float(spec.margin_px), float(spec.tile_px - spec.margin_px))
    found = merge(decode(scores[None], boxes[None], [Tile(0, 0, core, core)], spec), spec.merge_distance)
    low, high = core[0] + spec.diameter_px / 2, core[1] - spec.diameter_px / 2
    inside = ((found.xy_px >= low) & (found.xy_px <= high)).all(axis=1)
    return _Seen(found.xy_px[inside & (found.score >= spec.threshold)], found.xy_px)


def _found(wanted: FloatArray, got: FloatArray) -> bool:
    return len(match(got, wanted, MAX_DRIFT_PX)) == len(wanted)
