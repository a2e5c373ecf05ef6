"""Proof that one way of running a model answers as another does, on a micrograph that ships for it.

The micrograph is simulated. It is picked in all eight ways in which it can be turned and mirrored,
by batches of all sizes: a single pick whose score lies at the threshold then weighs little, and a
fault that only one batch size has shows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np

from gtpick_rt.backends.base import Backend
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.detection.picker import Picker, RawDetections
from gtpick_rt.detection.preprocess import to_working_scale
from gtpick_rt.detection.tile import cut, tile_grid
from gtpick_rt.errors import ModelError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.files import SAMPLE
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

SAMPLE_DIAMETER_A = 106.0

PICK_RADIUS_PX = 1.0
"""Two picks are the same when their centres are within one working pixel."""
MIN_AGREEMENT = 0.995
MAX_DRIFT_PX = 0.25
"""Of the centre of a pick, in working pixels."""
MAX_USUAL_DRIFT_PX = 0.05
"""Of all picks but those that may be missed, unless in bfloat16: sound half precision moves them by
0.004, coordinates that are rounded to it by 0.08."""
BFLOAT16 = frozenset({"openvino-bf16"})
"""Backends of which as many picks may drift further as may be missed: with its eight bits, of two
queries that found the same particle the other may win."""
ROW_PX, ROW_SCORE = 0.05, 1e-3
"""Rows of a batch may differ so much. They need not be equal bit by bit: a device may add up the
rows at the edge of a block in another order, which moves what half precision makes of it by a unit
in its last place."""

_BATCHES = (1, 2, 5, 8, 16, 32, 16, 8, 5, 2, 1)
"""Of the tiles that are compared; a last batch takes the rest. They go down again, for a CUDA graph
may suffer from a larger one that was captured after it."""
_ROWS = 32
"""Of one tile; each must give the same."""
_MOST_UNLIKE = 50
_FARTHEST = {"drift_px": MAX_DRIFT_PX, "usual_drift_px": MAX_USUAL_DRIFT_PX}


class Unlike(TypedDict):
    """A pick that one has and the other has not, or has elsewhere."""

    view: int
    wanted: list[float] | None
    """Its centre x, y in working pixels as the reference has it."""
    got: list[float] | None


@dataclass(frozen=True)
class Parity:
    """How far two runs of one model on the same tiles are apart."""

    alike: ClassVar[str] = "pick as the reference does"
    check: ClassVar[str] = "picks of the sample"
    way_out: ClassVar[str] = "pick with --backend cuda, or --backend cpu, which runs in single precision"

    tiles: int
    max_score_error: float
    """Largest difference of sorted scores, query by query; sorting forgives ties in the choice of
    queries."""
    reference_picks: int
    picks: int
    matched: int
    drift_px: float
    """Largest distance of the centres of two matched picks, in working pixels."""
    usual_drift_px: float
    """The distance that `MIN_AGREEMENT` of them do not exceed."""
    rows_alike: bool
    """Whether a tile that is repeated in a batch has the same answer in every row."""
    in_bfloat16: bool = False
    """Whether the other is one of `BFLOAT16`, and judged by the usual drift instead of the
    largest."""
    score_errors: Sequence[float] = field(default=(), compare=False)
    """`max_score_error` tile by tile, as they are shown: view by view, in batches of `_BATCHES`."""
    unlike: Sequence[Unlike] = field(default=(), compare=False)
    """The first picks that are missed, come newly, or move by more than `MAX_USUAL_DRIFT_PX`."""

    @property
    def agreement(self) -> float:
        """Matched picks over the larger number of picks; 0 when both found none, which proves
        nothing.
        """
        return self.matched / max(self.reference_picks, self.picks, 1)

    @property
    def holds(self) -> bool:
        """Whether the two pick alike.

        Scores are told, not judged: half precision moves them all, and hardly a pick.
        """
        return not self.not_kept

    @property
    def not_kept(self) -> list[str]:
        """The limits that are not kept: "drift_px <= 0.25"."""
        farthest = {"usual_drift_px": MAX_DRIFT_PX} if self.in_bfloat16 else _FARTHEST
        kept = {f"{which} <= {most_px}": getattr(self, which) <= most_px for which, most_px in farthest.items()}
        kept |= {f"agreement >= {MIN_AGREEMENT}": self.agreement >= MIN_AGREEMENT, "rows_alike": self.rows_alike}
        return [limit for limit, holds in kept.items() if not holds]

    def report(self) -> dict[str, Any]:
        """All figures, for a file."""
        return {"not_kept": self.not_kept, "agreement": self.agreement, "batches": _BATCHES, **asdict(self)}

    def __str__(self) -> str:
        rows = "" if self.rows_alike else ", identical rows of a batch answered differently"
        if not (self.reference_picks or self.picks):
            return f"{self.tiles} tiles: neither picks anything, which proves nothing{rows}"
        farthest, usual = _at_most(self.drift_px, 2), _at_most(self.usual_drift_px, 2)
        most = "" if usual == farthest else f" ({MIN_AGREEMENT:.1%} of them by at most {usual} px)"
        return (
            f"{self.tiles} tiles: {self.matched} of {max(self.reference_picks, self.picks)} picks agree; scores differ "
            f"by at most {_at_most(self.max_score_error, 3)}, centres by at most {farthest} px{most}{rows}"
        )


def _at_most(value: float, digits: int) -> str:
    """A bound in so many digits: rounded up, lest it says less than there is."""
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits:.{digits}f}"


def compare(
    reference: Backend,
    candidate: Backend,
    spec: ModelSpec,
    sample: Path = SAMPLE,
    diameter_A: float = SAMPLE_DIAMETER_A,
) -> Parity:
    """Let both backends pick the sample, and compare what they find at the model's threshold.

    Raises ModelError when the reference finds nothing, which proves nothing, and BackendError when
    a backend fails.
    """
    picker = Picker(reference, spec, diameter_A)
    images = [to_working_scale(view, diameter_A, spec) for view in views(read_micrograph(sample))]
    grids = [tile_grid(image.data.shape, spec) for image in images]
    tiles = cut([(image.data, tile) for image, grid in zip(images, grids, strict=True) for tile in grid], spec)
    expected, found = reference.infer(tiles), _in_batches(candidate, tiles)
    centres, start = list[tuple[FloatArray, FloatArray]](), 0
    for image, grid in zip(images, grids, strict=True):
        part = slice(start, start := start + len(grid))
        wanted, got = (
            image.to_working(picker.assemble(image, RawDetections(grid, scores[part], boxes[part])))
            for scores, boxes in (expected, found)
        )
        centres.append((wanted.xy_px[wanted.score >= spec.threshold], got.xy_px[got.score >= spec.threshold]))
    if not any(len(wanted) for wanted, _ in centres):
        raise ModelError(f"{spec.name} finds nothing on {sample.name}: by that it cannot be proved that backends agree")
    parity = parity_of(expected[0], found[0], centres, rows_alike(candidate, spec, tiles[0]))
    return replace(parity, in_bfloat16=candidate.name in BFLOAT16)


def sample_tiles(spec: ModelSpec) -> FloatArray:
    """The tiles `(n, 1, tile_px, tile_px)` of the sample, as it lies."""
    image = to_working_scale(read_micrograph(SAMPLE), SAMPLE_DIAMETER_A, spec).data
    return cut([(image, tile) for tile in tile_grid(image.shape, spec)], spec)


def parity_of(
    expected: FloatArray, found: FloatArray, centres: Sequence[tuple[FloatArray, FloatArray]], alike: bool
) -> Parity:
    """Compare scores `(tiles, queries)`, and the centres `(n, 2)` of picks wanted and found, in
    working pixels.

    There is a pair of centres for each image or tile; `alike` is what `rows_alike` says.
    """
    drifts_px = np.concatenate([_drifts_px(wanted, got) for wanted, got in centres])
    score_errors = np.abs(np.sort(expected) - np.sort(found)).max(axis=1)
    unlike = (each for view, (wanted, got) in enumerate(centres) for each in _unlike(view, wanted, got))
    return Parity(
        tiles=len(expected),
        max_score_error=float(score_errors.max()),
        reference_picks=sum(len(wanted) for wanted, _ in centres),
        picks=sum(len(got) for _, got in centres),
        matched=len(drifts_px),
        drift_px=float(drifts_px.max(initial=0)),
        usual_drift_px=float(np.quantile(drifts_px, MIN_AGREEMENT, method="higher")) if len(drifts_px) else 0.0,
        rows_alike=alike,
        score_errors=score_errors.tolist(),
        unlike=list(islice(unlike, _MOST_UNLIKE)),
    )


def _drifts_px(wanted: FloatArray, got: FloatArray) -> FloatArray:
    """Distances of the centres `(n, 2)` that match."""
    pairs = match(got, wanted, PICK_RADIUS_PX)
    distances: FloatArray = np.linalg.norm(got[pairs[:, 0]] - wanted[pairs[:, 1]], axis=1)
    return distances


def _unlike(view: int, wanted: FloatArray, got: FloatArray) -> Iterator[Unlike]:
    """The picks of one view, by their centres `(n, 2)`, that are not as they should be."""
    pairs = match(got, wanted, PICK_RADIUS_PX)
    for mine, other in pairs[_drifts_px(wanted, got) > MAX_USUAL_DRIFT_PX]:
        yield {"view": view, "wanted": wanted[other].tolist(), "got": got[mine].tolist()}
    for centre in np.delete(wanted, pairs[:, 1], axis=0):
        yield {"view": view, "wanted": centre.tolist(), "got": None}
    for centre in np.delete(got, pairs[:, 0], axis=0):
        yield {"view": view, "wanted": None, "got": centre.tolist()}


def rows_alike(backend: Backend, spec: ModelSpec, tile: FloatArray) -> bool:
    """Whether `(1, tile_px, tile_px)`, repeated in a batch, has the same detections above the floor
    in every row.

    The same are those with centres within `ROW_PX` and scores within `ROW_SCORE`, in whichever
    order.
    """
    scores, boxes = backend.infer(np.repeat(tile[None], _ROWS, axis=0))
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        return False
    kept = calibrate(scores, spec) >= spec.floor

    def holds_all_of(row: int, other: int) -> bool:
        pairs = match(boxes[other, kept[other], :2], boxes[row, :, :2], ROW_PX)
        gaps = np.abs(scores[other, kept[other]][pairs[:, 0]] - scores[row][pairs[:, 1]])
        return len(pairs) == kept[other].sum() and bool((gaps <= ROW_SCORE).all())

    return all(holds_all_of(row, 0) and holds_all_of(0, row) for row in range(1, _ROWS))


def views(micrograph: Micrograph) -> Iterator[Micrograph]:
    """The micrograph turned and mirrored in all eight ways."""
    for data in (micrograph.data, micrograph.data.T):
        for quarters in range(4):
            turned = np.ascontiguousarray(np.rot90(data, quarters))
            yield Micrograph(turned, micrograph.pixel_size_A, micrograph.path)


def _in_batches(backend: Backend, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    answers = [backend.infer(part) for part in np.split(tiles, np.cumsum(_BATCHES)) if len(part)]
    return np.concatenate([scores for scores, _ in answers]), np.concatenate([boxes for _, boxes in answers])
