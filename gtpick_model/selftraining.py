"""Self-training: a network learns what the particles of one specimen look like, and its ice and
noise, from micrographs that nobody labelled.

The order of its detections on them can be trusted more than their scores. These are probabilities,
so they add up to the number of particles to be expected. What comes first, counted in that number,
is taught as particles; what comes next counts neither way; all the rest is background. So a data
set of faint particles, whose best scores are low, teaches as much as one of clear ones. The network
that has learned orders them anew, and so on in rounds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gtpick_model.finetune import adapt
from gtpick_model.labelled import LabelledImage, background_map
from gtpick_model.learner import Pace
from gtpick_model.network import GTPick
from gtpick_model.real.teacher import detect_whole
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.types import FloatArray, Picks

SIMULATED = 0.25
"""Share of simulated tiles in a batch."""
PACE = Pace(steps=150, batch=16, learning_rate=5e-4, warm_up=20, ema=0.99)
"""Of one round."""
FEWEST_STEPS = 20
"""Of one round, however little time there is."""
_PROBE = 3
"""Steps that tell how long one takes."""


class Round(NamedTuple):
    """Which detections are taught: ranks, as multiples of the number of particles expected."""

    sure: float
    """Up to here they are particles."""
    doubtful: float
    """Up to here they count neither way."""


ROUNDS = (Round(0.8, 2.5), Round(0.8, 1.6), Round(0.8, 1.3))
"""For a network that was shown real micrographs. Chosen on EMPIAR-10059, where its scores add up to
fewer particles than have a label: less of that number would teach the clearest alone."""
CAUTIOUS = (Round(0.6, 1.6), Round(0.6, 1.6), Round(0.6, 1.6))
"""For one that was shown none: its scores add up to far more particles than have a label, and
`ROUNDS` would teach it what is none. `finetune --unlabelled` uses the first, for any."""


class Cut(NamedTuple):
    """What a round makes of the scores of a data set."""

    particles: float
    """To be expected."""
    sure: float
    """Score from which a detection is taught as a particle."""
    doubtful: float
    """Score from which it counts neither way."""


class SelfTrained(NamedTuple):
    """A network that has taught itself, and how."""

    network: GTPick
    cuts: list[Cut]
    """Of each round."""
    steps: int


def cut(found: Sequence[Picks], taught: Round) -> Cut:
    """Turn ranks into scores, for the detections on all micrographs of a data set."""
    score = np.sort(np.concatenate([picks.score for picks in found]).astype(float))[::-1]
    particles = float(score.sum())
    last = len(score) - 1
    sure, doubtful = (float(score[min(last, int(rank * particles))]) if last >= 0 else 1.0 for rank in taught)
    return Cut(particles, sure, doubtful)


def lay(image: FloatArray, found: Picks, at: Cut, extent_px: float, diameter_px: float) -> LabelledImage:
    """What is taught of a working image `(h, w)` by the detections on it.

    Args:
        image: the image.
        found: detections, in its pixels.
        at: which of them are particles.
        extent_px: diameter to teach for each.
        diameter_px: around a doubtful one in which nothing is taught.
    """
    sure = found[found.score >= at.sure]
    doubtful = found[(found.score < at.sure) & (found.score >= at.doubtful)]
    boxes = np.column_stack((sure.xy_px, np.full(len(sure), extent_px, np.float32)))
    unknown = np.zeros(len(doubtful), np.float32)
    return LabelledImage(image, boxes, background_map(image.shape, diameter_px, doubtful.xy_px, unknown))


def teach(
    network: GTPick,
    images: Sequence[FloatArray],
    calibration: tuple[float, float],
    taught: Round,
    diameter_px: float,
) -> tuple[list[LabelledImage], Cut]:
    """What a network sees on working images `(h, w)` of one specimen, as labels to learn from.

    `calibration` makes its scores probabilities: slope and offset; particles are shown with a
    diameter of `diameter_px`.
    """
    found = [detect_whole(network, image, calibration) for image in images]
    at = cut(found, taught)
    sizes = np.concatenate([picks.diameter_px[picks.score >= at.sure] for picks in found])
    extent_px = float(np.median(sizes)) if len(sizes) else diameter_px
    return [lay(image, picks, at, extent_px, diameter_px) for image, picks in zip(images, found, strict=True)], at


def self_train(
    network: GTPick,
    images: Sequence[FloatArray],
    calibration: tuple[float, float],
    diameter_px: float,
    library: ViewLibrary,
    on_step: Callable[[int, int], None],
    rounds: Sequence[Round],
    seconds: float = float("inf"),
    pace: Pace = PACE,
) -> SelfTrained:
    """Adapt a copy of `network` to micrographs of one specimen.

    Args:
        network: the network to begin with.
        images: the micrographs as the network sees them: `(h, w)`, normalised.
        calibration: what makes its scores probabilities: slope and offset.
        diameter_px: of the particles there.
        library: particles for the simulated tiles, which keep it from forgetting all others.
        on_step: is called after each step with the steps done, and how many there will be.
        rounds: what each teaches.
        seconds: to spend; where they do not suffice there are fewer steps.
        pace: of each round.
    """
    end = time.monotonic() + seconds
    cuts: list[Cut] = []
    done = 0
    for left, taught in zip(range(len(rounds), 0, -1), rounds, strict=True):
        lessons, at = teach(network, images, calibration, taught, diameter_px)
        now = replace(pace, seed=pace.seed + len(cuts))
        if seconds < float("inf"):
            began = time.monotonic()
            adapt(network, lessons, library, lambda _: None, replace(now, steps=_PROBE), SIMULATED)
            each_s = (time.monotonic() - began) / _PROBE
            steps = min(pace.steps, max(FEWEST_STEPS, int((end - began) / left / each_s)))
            now = replace(now, steps=steps, warm_up=pace.warm_up * steps // pace.steps)
        before, total = done, done + left * now.steps

        def told(step: int, before: int = before, total: int = total) -> None:
            on_step(before + step, total)

        network = adapt(network, lessons, library, told, now, SIMULATED)
        done += now.steps
        cuts.append(at)
    return SelfTrained(network, cuts, done)
