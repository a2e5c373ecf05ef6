"""Adapting the network to a specimen from micrographs without labels: what it looks at, whether
these can teach it anything, and whether what was learned is kept.

A network that is shown ice alone would learn ice. Two things tell, without a label. Before: on
particles its scores promise a good F1; of whatever else there is it is unsure, so they do not.
After: it must still find what it was sure of.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from gtpick_export.finetuning import to_backend
from gtpick_export.to_onnx import make_spec
from gtpick_model.metrics import RADIUS
from gtpick_model.network import GTPick
from gtpick_model.selftraining import CAUTIOUS, PACE, ROUNDS, Round, cut, self_train
from gtpick_model.tiles import libraries
from gtpick_model.weights import load_weights
from gtpick_rt.detection.decode import calibrate
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.detection.survey import survey
from gtpick_rt.detection.threshold import expect
from gtpick_rt.errors import UnadaptedError
from gtpick_rt.evaluate.matching import match
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.summary import Change
from gtpick_rt.picking.adapting import check_start
from gtpick_rt.records import counted
from gtpick_rt.types import Micrograph, Picks

MOST = 12
"""Micrographs to learn from."""
PROMISED, PROMISED_OF_SIMULATION = 0.6, 0.7
"""Least F1 that the scores must promise before anything is learned; the second where the provenance
names no real micrographs, so that the network is surer of ice. The first was 0.5: of two simulated
sets that promised 0.52 and 0.54 one lost by what was learned
(benchmarks/accuracy/adaptation_simulated.py)."""
ENOUGH = 100
"""Particles to be expected, so that there is something to learn from."""
KEPT = 0.9
"""Least share of what the network was sure of that it must find again."""
RAW_THRESHOLD = 0.43
"""Of the adapted network, before calibration: 0.7 by the calibration of version 2, of which it was
chosen. By flatter ones, as of networks that were shown labelled micrographs, 0.7 is a raw score of
0.53 to 0.69, which faint particles do not reach."""
PROCEDURALS = 24
"""Particles between which those of the micrographs are put."""


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network that has adapted itself, and what shows whether it may be used."""

    network: GTPick
    spec: ModelSpec
    diameter_A: float
    names: list[str]
    """Of the micrographs it has learned from."""
    promised: float
    """F1, by the scores before."""
    rounds: Sequence[Round]
    """What was taught."""
    threshold_before: float
    """That `pick` would have found for these micrographs."""
    before: list[Picks]
    after: list[Picks]
    """Detections on each, in working pixels."""

    @property
    def kept(self) -> float:
        """Share of what the network was sure of before that it picks now."""
        sure = cut(self.before, self.rounds[0]).sure
        radius_px = RADIUS * self.spec.diameter_px
        found = wanted = 0
        for before, after in zip(self.before, self.after, strict=True):
            surest, picks = before[before.score >= sure], after[after.score >= self.spec.threshold]
            found += len(match(picks.xy_px, surest.xy_px, radius_px))
            wanted += len(surest)
        return found / max(wanted, 1)

    @property
    def changes(self) -> list[Change]:
        """The picks on each micrograph before, and now."""
        return [
            _change(name, before[before.score >= self.threshold_before], after[after.score >= self.spec.threshold])
            for name, before, after in zip(self.names, self.before, self.after, strict=True)
        ]


def _change(name: str, before: Picks, now: Picks) -> Change:
    both = (before, now)
    low, high = (round(float(np.median(each.score)), 4) if len(each) else None for each in both)
    return Change(name=name, picks=(len(before), len(now)), median_score=(low, high))


def adapt_to(
    micrographs: Iterable[Micrograph],
    start: Path,
    diameter_A: float | None,
    on_step: Callable[[int, int], None],
    seconds: float = math.inf,
    seed: int = 0,
) -> Adapted:
    """Adapt the network whose weights are in the file `start` to the first `MOST` of `micrographs`,
    which are gone through twice and need not be in memory.

    `on_step` is told of the steps done, and of how many there will be, which take about `seconds`
    at most; another `seed` draws other tiles. Raises UnadaptedError when the micrographs can teach
    nothing or what was learned is not to be trusted, UndecidedError when they do not show how large
    the particles are, UsageError where the network has adapted itself already.
    """
    network, trained = load_weights(start)
    spec = make_spec(network, start.stem, "1", trained)
    check_start(start, spec)
    backend = to_backend(network)
    found = survey(backend, spec, micrographs, diameter_A)
    picker = Picker(backend, spec, found.diameter_A, found.contrast, survey=found)
    prepared = [(each.path.name, picker.prepare(each)) for each in islice(micrographs, MOST)]
    names, images = [name for name, _ in prepared], [image for _, image in prepared]
    before = detect(picker, images)
    promised = _promised(before, spec)
    library, _ = libraries(None, PROCEDURALS, views=24)
    data = [each.data for each in images]
    rounds = ROUNDS if spec.told("real") else CAUTIOUS
    pace = replace(PACE, seed=len(rounds) * seed)  # each round takes a seed of its own
    learning = self_train(network, data, spec.calibration, spec.diameter_px, library, on_step, rounds, seconds, pace)
    learned = {
        "adapted_from": f"{start.name} sha256 {hashlib.sha256(start.read_bytes()).hexdigest()}",
        "micrographs": ", ".join(names),
        "diameter_A": f"{found.diameter_A:g}",
        "particles_taught": " ".join(
            f"{each.particles * rank.sure:.0f}" for each, rank in zip(learning.cuts, rounds, strict=True)
        ),
        "adapting_steps": str(learning.steps),
        "adapting_seed": str(seed),
        "date": time.strftime("%Y-%m-%d"),
    }
    provenance = learned | {f"base_{key}": value for key, value in spec.provenance.items()}
    described = replace(spec, threshold=own_threshold(spec), provenance=provenance)
    after = detect(Picker(to_backend(learning.network), spec, found.diameter_A, found.contrast), images)
    return _checked(
        Adapted(learning.network, described, found.diameter_A, names, promised, rounds, picker.threshold, before, after)
    )


def own_threshold(start: ModelSpec) -> float:
    """That of a network that was adapted from the one of this spec."""
    return float(calibrate(np.array([RAW_THRESHOLD], np.float32), start)[0])


def detect(picker: Picker, images: Sequence[WorkingImage]) -> list[Picks]:
    """All detections on each image, in working pixels."""
    return [image.to_working(picker.assemble(image, picker.infer(image))) for image in images]


def _promised(found: Sequence[Picks], spec: ModelSpec) -> float:
    """The F1 that the scores promise. Raises UnadaptedError where it is too little."""
    expected = expect(np.concatenate([np.zeros(0), *(each.score for each in found)]), spec.threshold)
    if expected.particles < ENOUGH:
        raise UnadaptedError(
            f"about {counted(round(expected.particles), 'particle')} can be expected on "
            f"{counted(len(found), 'micrograph')}, and {ENOUGH} are needed to learn from; name more micrographs"
        )
    needed = PROMISED if spec.told("real") else PROMISED_OF_SIMULATION
    if expected.f1 < needed:
        raise UnadaptedError(
            f"the scores on these micrographs promise an F1 of {expected.f1:.2f}, and {needed:g} is needed: what is "
            "seen there may be no particles; name better micrographs, or mark particles and use gtpick-rt finetune"
        )
    return expected.f1


def _checked(adapted: Adapted) -> Adapted:
    if adapted.kept < KEPT:
        raise UnadaptedError(
            f"the adapted network finds {adapted.kept:.0%} of what it was sure of before, and {KEPT:.0%} are needed, "
            "so it is not used; name other micrographs, or mark particles and use gtpick-rt finetune"
        )
    return adapted
