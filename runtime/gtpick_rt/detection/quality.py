"""What is wrong with a micrograph, judged from its working image and its picks.

Flags inform; they remove nothing.

| flag         | what it means                                                                     |
|--------------|-----------------------------------------------------------------------------------|
| empty        | hardly a particle was found; a micrograph too faint to pick looks the same        |
| crowded      | particles lie almost as densely as discs of their diameter can at random          |
| carbon edge  | a sharp edge parts two regions of different texture or darkness: support film     |
| ice          | something dark or rough lies there, larger than a particle: ice, dirt, aggregates |
| low contrast | particles are faint: many of those expected score somewhat below the threshold    |

Scores are taken at their word: of ten detections that score 0.3 three are expected to be particles.
"""

from gtpick_rt.detection.contamination import Contamination
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks

FLAGS = ("empty", "crowded", "carbon edge", "ice", "low contrast")

EMPTY_COVERAGE = 0.01
"""Expected particles, times the square of their diameter, over the area."""
CROWDED_COVERAGE = 0.5
"""Picks times the square of their diameter, over the area; discs dropped at random until no more
fits reach 0.70."""
FAINT_SHARE, DOUBTFUL = 0.25, 0.6
"""Of the particles expected among detections that score at least so much of the threshold, those
below it. Still lower scores are of noise where particles are sparse. Chosen by the fields that
`benchmarks/accuracy/quality_flags.py --tune` draws."""


def quality_flags(image: WorkingImage, detections: Picks, spec: ModelSpec, found: Contamination) -> list[str]:
    """Name what is wrong with a micrograph, in the order of `FLAGS`; an empty list when nothing is.

    `detections` are all that there are, in any pixels, and `found` is what
    `find_contamination` finds. Picks are here those above the model's own threshold, so that the
    flags describe the micrograph and not the threshold that was asked for.
    """
    wrong = _flags_of_picks(detections.score, image, spec)
    wrong |= {"carbon edge": found.film is not None, "ice": found.ice is not None}
    return [name for name in FLAGS if wrong[name]]


def _flags_of_picks(score: FloatArray, image: WorkingImage, spec: ModelSpec) -> dict[str, bool]:
    coverage = spec.diameter_px**2 / image.data.size  # of one particle
    picked, likely = (score[score >= share * spec.threshold] for share in (1, DOUBTFUL))
    empty = bool(picked.sum() * coverage < EMPTY_COVERAGE)
    return {
        "empty": empty,
        "crowded": len(picked) * coverage >= CROWDED_COVERAGE,
        "low contrast": not empty and bool(picked.sum() < (1 - FAINT_SHARE) * likely.sum()),
    }
