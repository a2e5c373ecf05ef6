"""Make the sample on which backends are proved, so that rounding decides nothing on it.

    gtpick-rt simulate OUT --count 1 --size 768 --particle 24 --snr 0.1 --seed 0
    python benchmarks/accuracy/parity_sample.py OUT/sim_0000.mrc runtime/gtpick_rt/models/sample.mrc

On a simulated micrograph some particles are found twice with almost the same score, most of them on
a seam, by two tiles. Rounding then chooses between two places, half a pixel apart, and a backend in
which nothing is wrong is refused. So wherever, in any of the eight views in which the micrograph is
compared, the shipped model in single precision has

* a pick that leads another detection of its particle, `APART_PX` or more off, by less than `LEAD`,
* a detection whose score is within `CLEARANCE` of the threshold, or
* a pick that a slightly different merge distance would change,

the micrograph there fades into white noise, and again, until there is no such place. (Both limits
are in logits of the calibrated score.) Nothing else is looked at, least of all what is right. So
the sample is chosen by what the shipped model finds on it: it lets arithmetic be judged, is easier
to agree on than an ordinary micrograph, and is no measure of accuracy, nor of how often half
precision changes a pick. Another model may have ties on it.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.special import logit

from gtpick_rt import Micrograph, Picker, Picks, read_micrograph
from gtpick_rt.detection.decode import decode
from gtpick_rt.detection.picker import RawDetections
from gtpick_rt.detection.preprocess import WorkingImage
from gtpick_rt.evaluate.matching import match
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.proof.parity import SAMPLE_DIAMETER_A, views
from gtpick_rt.types import FloatArray

LEAD, CLEARANCE = 0.3, 0.2
APART_PX = 0.2
"""In working pixels: closer detections may take each other's place."""
MERGE_CHANGE = 0.02
SPOT_PX = 5.0
"""Standard deviation of a spot."""
SHARE = 0.7
"""Of noise in the middle of a spot; the image there keeps its variance."""


def undecided(
    picker: Picker, image: WorkingImage, raw: RawDetections, lead: float = LEAD, clearance: float = CLEARANCE
) -> FloatArray:
    """Centres `(n, 2)`, in working pixels, of what a little rounding could change."""
    spec = picker.spec
    found = image.to_working(picker.assemble(image, raw))
    unclear = np.abs(_level(found) - logit(spec.threshold)) < clearance
    picks = found[found.score >= spec.threshold]
    places = [found.xy_px[unclear], picks.xy_px[_rivalled(picks, picker, raw, lead)]]
    for factor in (1 - MERGE_CHANGE, 1 + MERGE_CHANGE):
        changed = replace(spec, merge_distance=factor * spec.merge_distance)
        found = image.to_working(Picker(picker.backend, changed, picker.diameter_A).assemble(image, raw))
        others = found[found.score >= spec.threshold]
        places += [_missing(picks, others), _missing(others, picks)]
    return np.concatenate(places)


def _rivalled(picks: Picks, picker: Picker, raw: RawDetections, lead: float) -> NDArray[np.bool_]:
    """Which picks hardly lead another detection with which merging has joined them."""
    rivalled = np.zeros(len(picks), bool)
    for tile, scores, boxes in zip(raw.tiles, raw.scores, raw.boxes, strict=True):
        found = decode(scores[None], boxes[None], [tile], picker.spec)
        distance = cdist(picks.xy_px, found.xy_px)
        reach = picker.spec.merge_distance * (picks.diameter_px[:, None] + found.diameter_px) / 2
        close = _level(picks)[:, None] - _level(found) < lead
        rivalled |= (close & (distance > APART_PX) & (distance < reach)).any(axis=1)
    return rivalled


def _level(picks: Picks) -> NDArray[np.float64]:
    return logit(picks.score.astype(float))


def _missing(picks: Picks, others: Picks) -> FloatArray:
    """Centres of the picks that are not among the others."""
    return np.delete(picks.xy_px, match(picks.xy_px, others.xy_px, APART_PX)[:, 0], axis=0)


def undecided_pixels(micrograph: Micrograph, picker: Picker) -> NDArray[np.bool_]:
    """Pixels `(h, w)` of the micrograph where in any view something is `undecided`."""
    pixels = np.zeros(micrograph.data.size, bool)
    numbers = np.arange(micrograph.data.size, dtype=np.float32).reshape(micrograph.data.shape)
    for view, numbered in zip(views(micrograph), views(replace(micrograph, data=numbers)), strict=True):
        image = picker.prepare(view)
        centres = undecided(picker, image, picker.infer(image))
        ones = np.ones(len(centres), np.float32)
        x, y = image.to_micrograph(Picks(centres, ones, ones)).xy_px.round().astype(int).T
        pixels[numbered.data[y, x].astype(int)] = True
    return pixels.reshape(micrograph.data.shape)


def with_noise(micrograph: Micrograph, pixels: NDArray[np.bool_], rng: np.random.Generator) -> Micrograph:
    """Fade the image into noise at each of the pixels, and round as the file will."""
    spots = 2 * np.pi * SPOT_PX**2 * gaussian_filter(pixels.astype(float), SPOT_PX)
    share = SHARE * np.minimum(spots, 1)
    noise = micrograph.data.std() * rng.standard_normal(pixels.shape)
    noisy = np.sqrt(1 - share**2) * micrograph.data + share * noise
    return replace(micrograph, data=noisy.astype(np.float16).astype(np.float32))


def main() -> None:
    """Make a sample of a simulated micrograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("micrograph", type=Path, help="of `gtpick-rt simulate`, at the working scale")
    parser.add_argument("sample", type=Path, help="MRC file to write")
    arguments = parser.parse_args()
    picker = open_picker(SAMPLE_DIAMETER_A, backend="cpu")
    micrograph, rng = read_micrograph(arguments.micrograph), np.random.default_rng(0)
    while (pixels := undecided_pixels(micrograph, picker)).any():
        print(f"{pixels.sum()} places are undecided", flush=True)
        micrograph = with_noise(micrograph, pixels, rng)
    with mrcfile.new(arguments.sample, overwrite=True) as mrc:
        mrc.set_data(micrograph.data.astype(np.float16))
        mrc.voxel_size = micrograph.pixel_size_A


if __name__ == "__main__":
    main()
