"""What a few micrographs tell of the specimen before picking begins: how large its particles are,
how they show, and whether they need another threshold than the model's own.

The network measures every particle that it finds, but well only near the size at which it was
trained. So it looks at micrographs at a series of scales, which bring every diameter in question
into that range once, and each detection is a vote for the diameter that it measured. It looks for
dark particles on bright ice, which it knows, and for the same in the inverted image. The diameter
on which most votes agree is then measured again, at the scale that suits it best.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtpick_rt.backends.base import Backend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import CONTRASTS, ODD, Contrast, Survey
from gtpick_rt.detection.threshold import expect
from gtpick_rt.errors import PixelError, UndecidedError, UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.records import counted
from gtpick_rt.types import Micrograph

SMALLEST_A, LARGEST_A = 50.0, 850.0
"""Diameters that can be found: from the smallest proteins that are imaged singly to large
capsids."""
AT_ALL_SCALES = 2
"""Micrographs looked at at every scale and in both contrasts; more, while they have not settled the
matter."""
USUAL, MOST = 5, 12
"""Micrographs looked at in all: where the matter is settled, and where it is not."""
SETTLED_BY = 4.0
"""Weight of the votes that must agree."""
SHARPNESS = 4
"""A vote weighs this power of its score, lest the many doubtful detections of noise outvote the few
good ones."""

_RIM = 0.23
"""Share of the trained range, in the logarithm, at each of its ends, where measured diameters are
drawn inwards."""
_AGREEMENT = 1.5
"""Votes agree within this factor: projections of one kind of particle differ in size."""
_CLEARLY = 1.3
"""Factor by which the votes for one contrast must outweigh those for the other: gaps between
particles get some."""


class _Votes(NamedTuple):
    """Detections as votes for the diameter that each measured, `(n,)`."""

    diameter_A: NDArray[np.float64]
    score: NDArray[np.float64]
    problem: str = ""
    """Why the micrograph could not be looked at at this scale."""

    @property
    def weight(self) -> NDArray[np.float64]:
        return self.score**SHARPNESS


class _Agreement(NamedTuple):
    """The narrow range of diameters that holds most of the votes."""

    quartiles_A: tuple[float, float, float]
    weight: float

    @property
    def median_A(self) -> float:
        return self.quartiles_A[1]

    @property
    def settled(self) -> bool:
        return self.weight >= SETTLED_BY


def survey(
    backend: Backend, spec: ModelSpec, micrographs: Iterable[Micrograph], diameter_A: float | None = None
) -> Survey:
    """Find the contrast of the particles, their diameter unless it is given, and a threshold where
    another than the model's own promises much more.

    No more of `micrographs` are drawn than are needed; they may differ in size and pixel size.
    Raises UndecidedError when they do not show the diameter. Where it is given and they do not show
    the contrast, the particles are dark; what they measure is kept beside it, see `specimen.judge`.
    """
    if diameter_A is not None:
        return _beside(backend, spec, micrographs, diameter_A)
    votes: dict[Contrast, list[_Votes]] = {contrast: [] for contrast in CONTRASTS}
    contrast, rough, best, tried = CONTRASTS[0], _agreement([]), _agreement([]), 0
    for tried, micrograph in enumerate(islice(micrographs, MOST), start=1):
        if tried <= AT_ALL_SCALES or not rough.settled:
            for kind, cast in votes.items():
                cast += [_measure(Picker(backend, spec, scale_A, kind), micrograph) for scale_A in _series(spec)]
            contrast, rough = _decide(votes)
            best, measured, at_size = rough, [], []  # what was measured on an earlier opinion is void
        if rough.settled:
            measured.append(_measure(Picker(backend, spec, _best_scale(best.median_A, spec), contrast), micrograph))
            at_size.append(_look(Picker(backend, spec, best.median_A, contrast), micrograph))
            final = _agreement(measured)
            best = final if final.settled else rough
            if tried >= USUAL:
                break
    if not best.settled:
        raise UndecidedError(_undecided(tried, votes["dark"]))
    low, median, high = (round(diameter, 0) for diameter in best.quartiles_A)
    return Survey(median, (low, high), contrast, tried, threshold=_threshold(at_size, spec))


def _beside(backend: Backend, spec: ModelSpec, micrographs: Iterable[Micrograph], diameter_A: float) -> Survey:
    """Compare the detections of both contrasts at the diameter that is given, whatever sizes they
    measure, and measure them.

    Where particles are not clearly dark on the first micrographs, as they usually are, others are
    asked too. All scales are gone through on one micrograph, in the contrast that seems to be
    theirs; on more, while these do not agree with what is given. Dark particles that are far larger
    than what is given leave bright gaps of that size, so bright ones must then outweigh dark ones
    at any size.
    """
    at_size: dict[Contrast, list[_Votes]] = {contrast: [] for contrast in CONTRASTS}
    votes: dict[Contrast, list[_Votes]] = {contrast: [] for contrast in CONTRASTS}
    weight = dict.fromkeys(CONTRASTS, 0.0)
    tried, field_A = 0, 0.0
    for micrograph in islice(micrographs, USUAL):
        tried, field_A = tried + 1, max(field_A, min(micrograph.data.shape) * micrograph.pixel_size_A)
        for contrast in CONTRASTS:
            at_size[contrast].append(_look(Picker(backend, spec, diameter_A, contrast), micrograph))
            weight[contrast] += at_size[contrast][-1].weight.sum()
        seen = _contrast(weight)
        for kind in dict.fromkeys((seen, CONTRASTS[0])):
            if not _agrees(_measured_A(votes[seen], diameter_A), diameter_A):
                votes[kind] += [_measure(Picker(backend, spec, each_A, kind), micrograph) for each_A in _scales(spec)]
        if tried >= AT_ALL_SCALES and _outweighs(weight["dark"], weight["bright"]):
            break
    contrast = _contrast(weight)
    if not _agrees(_measured_A(votes[contrast], diameter_A), diameter_A):
        at_any_size, agreement = _decide(votes)
        contrast = at_any_size if agreement.settled else contrast
    measured_A = _measured_A(votes[contrast], diameter_A)
    threshold = _threshold(at_size[contrast], spec)
    return Survey(diameter_A, None, contrast, tried, measured_A, field_A if tried else math.inf, threshold)


def _measured_A(votes: Sequence[_Votes], given_A: float) -> float | None:
    """The diameter on which votes agree; of two on which about as many do, the one that was
    given.
    """
    best = _agreement(votes)
    near = _agreement([_near(cast, given_A) for cast in votes])
    chosen = near if near.settled and not _outweighs(best.weight, near.weight) else best
    return round(chosen.median_A, 0) if chosen.settled else None


def _near(votes: _Votes, given_A: float) -> _Votes:
    inside = (votes.diameter_A >= given_A / _AGREEMENT) & (votes.diameter_A <= given_A * _AGREEMENT)
    return _Votes(votes.diameter_A[inside], votes.score[inside])


def _agrees(measured_A: float | None, given_A: float) -> bool:
    return measured_A is not None and max(measured_A / given_A, given_A / measured_A) < ODD


def _threshold(votes: Sequence[_Votes], spec: ModelSpec) -> float | None:
    """A threshold that promises much more than the model's own; None where none does, or where the
    model has adapted itself, for its scores promise nothing.
    """
    if spec.told("adapted_from"):
        return None
    expected = expect(np.concatenate([np.zeros(0), *(each.score for each in votes)]), spec.threshold)
    return round(expected.threshold, 4) if expected.holds else None


def _undecided(tried: int, cast: list[_Votes]) -> str:
    if not tried:
        return "no micrograph can be read to measure its particles on; `gtpick-rt check` says why"
    if all(each.problem for each in cast):
        if cast[0].problem == cast[1].problem:  # at whatever scale it is looked at
            return f"{cast[0].problem}; so its particles cannot be measured"
        return (
            "the micrographs are too small or too coarse to measure particles of "
            f"{SMALLEST_A:g} to {LARGEST_A:g} Å on; check --pixel-size, or give the diameter in Å: --diameter"
        )
    return (
        f"too few particles show on the {counted(tried, 'micrograph')} looked at to measure their diameter; "
        "check --pixel-size, or give the diameter in Å: --diameter"
    )


def _decide(votes: dict[Contrast, list[_Votes]]) -> tuple[Contrast, _Agreement]:
    """The contrast with more votes that agree, and what they agree on."""
    found = {contrast: _agreement(cast) for contrast, cast in votes.items()}
    contrast = _contrast({contrast: agreement.weight for contrast, agreement in found.items()})
    return contrast, found[contrast]


def _contrast(weight: dict[Contrast, float]) -> Contrast:
    """Dark, which is usual, unless the votes for bright particles clearly outweigh those for dark
    ones.
    """
    return "bright" if _outweighs(weight["bright"], weight["dark"]) else "dark"


def _outweighs(weight: float, other: float) -> bool:
    return weight >= max(SETTLED_BY, _CLEARLY * other)


def _agreement(votes: Sequence[_Votes]) -> _Agreement:
    """Find the range of diameters, a factor `_AGREEMENT` wide, whose votes weigh most."""
    if not sum(len(cast.score) for cast in votes):
        return _Agreement((math.nan, math.nan, math.nan), 0.0)
    diameter_A = np.concatenate([cast.diameter_A for cast in votes])
    weight = np.concatenate([cast.weight for cast in votes])
    ranked = diameter_A.argsort()
    diameter_A, total = diameter_A[ranked], np.concatenate(([0.0], weight[ranked].cumsum()))
    end = np.searchsorted(diameter_A, _AGREEMENT * diameter_A, side="right")
    inside = total[end] - total[:-1]
    first = int(inside.argmax())
    quartiles = np.searchsorted(total[1:], total[first] + inside[first] * np.array([0.25, 0.5, 0.75]))
    low, median, high = diameter_A[quartiles].tolist()
    return _Agreement((low, median, high), float(inside[first]))


def _measurable(spec: ModelSpec) -> tuple[float, float]:
    """The range of diameters, in working pixels, in which the network measures well."""
    smallest, largest = spec.diameter_range_px
    rim = (largest / smallest) ** _RIM
    return smallest * rim, largest / rim


def _best_scale(diameter_A: float, spec: ModelSpec) -> float:
    """The nominal diameter at which particles of `diameter_A` lie in the middle of the trained
    range.
    """
    return diameter_A * spec.diameter_px / np.mean(spec.diameter_range_px).item()


def _series(spec: ModelSpec) -> list[float]:
    """Nominal diameters whose measurable ranges together cover all diameters in question.

    Raises UsageError when there are none.
    """
    scales = _scales(spec)
    if not scales:
        raise UsageError(f"{spec.name} was trained on a single size and cannot measure others: give --diameter")
    return scales


def _scales(spec: ModelSpec) -> list[float]:
    low, high = _measurable(spec)
    if low == high:
        return []
    count = math.ceil(math.log(LARGEST_A / SMALLEST_A) / math.log(high / low))
    return [SMALLEST_A * spec.diameter_px / low * (high / low) ** n for n in range(count)]


def _measure(picker: Picker, micrograph: Micrograph) -> _Votes:
    """The votes of those particles that the network measures well at the picker's scale."""
    votes = _look(picker, micrograph)
    low, high = (picker.diameter_A * bound / picker.spec.diameter_px for bound in _measurable(picker.spec))
    well = (votes.diameter_A >= low) & (votes.diameter_A <= high)
    return _Votes(votes.diameter_A[well], votes.score[well], votes.problem)


def _look(picker: Picker, micrograph: Micrograph) -> _Votes:
    """The votes of all particles in the middle of a micrograph.

    There are none where the micrograph is too coarse or too small for the picker's scale.
    """
    try:
        found = picker.pick(_middle(micrograph, picker.diameter_A, picker.spec))
    except PixelError as error:
        return _Votes(np.zeros(0), np.zeros(0), str(error))
    diameter_A = found.diameter_px.astype(float) * micrograph.pixel_size_A
    return _Votes(diameter_A, found.score.astype(float))


def _middle(micrograph: Micrograph, scale_A: float, spec: ModelSpec) -> Micrograph:
    """The middle of a micrograph, two by two tiles at that scale: this bounds the cost."""
    most = int(2 * (spec.tile_px - spec.margin_px) * scale_A / spec.diameter_px / micrograph.pixel_size_A)
    rows, columns = (slice(max(0, (n - most) // 2), max(0, (n - most) // 2) + most) for n in micrograph.data.shape)
    return replace(micrograph, data=np.ascontiguousarray(micrograph.data[rows, columns]))
