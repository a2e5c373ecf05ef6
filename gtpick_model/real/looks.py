"""One real micrograph in the many looks that it is trained on: part, scale, added noise,
processing.
"""

import math

import numpy as np
import torch

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import LabelledImage, background_map
from gtpick_model.normalise import normalise
from gtpick_model.real.specimens import LARGEST, RealMicrograph
from gtpick_model.simulator import detector
from gtpick_rt.detection.resample import resample
from gtpick_rt.types import FloatArray, Picks

SCALES = (0.7, LARGEST)
PART_PX = 320
"""Side of the part of a micrograph that is looked at: half a dozen tiles of training."""
MARGIN_PX = 48
"""Seen around it, where the micrograph has it: two particles, on which the background at its rim
rests too."""
NOISY, PROCESSED = 0.5, 0.3
"""Share of looks with noise added, and of those that look denoised or contrast-equalised."""
NOISE = (0.2, 2.0)
"""Standard deviation of added noise, in those of the image (logarithmic)."""


def draw_look(
    micrograph: RealMicrograph, rows: float, doubts: Picks, config: ModelConfig, rng: np.random.Generator
) -> LabelledImage:
    """One look of a part of a micrograph, with its labels, and how sure the rest is to be
    background.

    Args:
        micrograph: the micrograph.
        rows: share of its rows, from the first on, that the part may lie in.
        doubts: what may be particles without a label, in px of `plain`; scores say how sure each is
            to be none.
        config: of the network.
        rng: decides part, scale and processing.
    """
    scale = math.exp(rng.uniform(math.log(SCALES[0]), math.log(SCALES[1])))
    inner, outer = _part(micrograph, scale, rows, rng)
    height, width = (max(1, round((last - first) * scale / LARGEST)) for first, last in outer)
    pixels = torch.from_numpy(resample(micrograph.pixels[slice(*outer[0]), slice(*outer[1])], (height, width)))
    zoom = np.array([width, height]) / [last - first for first, last in reversed(outer)]

    def on_it(xy: FloatArray) -> FloatArray:
        corner = [first for first, _ in reversed(outer)]
        return np.asarray((xy + 0.5 - corner) * zoom - 0.5, np.float32)

    nominal_px = scale * config.nominal_diameter_px
    extent_px = nominal_px * micrograph.extent
    if rng.random() < NOISY:
        level = math.exp(rng.uniform(*np.log(NOISE)))
        pixels = pixels + pixels.std() * level * _noise(pixels.shape, extent_px, rng)
    if rng.random() < PROCESSED:
        pixels = detector.prefilter(rng, pixels, extent_px)
    data = normalise(pixels[None], config.highpass_px, config.clip)[0].numpy()
    if micrograph.particles == "none":
        background = np.ones_like(data)
    else:
        stored = np.array(micrograph.pixels.shape[::-1]) / _shape_at(micrograph, 1.0)[::-1]
        xy = on_it((doubts.xy_px + np.float32(0.5)) * stored - 0.5)
        background = background_map(data.shape, nominal_px, xy, doubts.score)
    y, x = (
        [round((end - whole[0]) * ratio) for end in ends]
        for ends, whole, ratio in zip(inner, outer, zoom[::-1], strict=True)
    )
    centres = on_it(micrograph.centres) - np.array([x[0], y[0]], np.float32)
    centres = centres[((centres > -0.5) & (centres < np.array([x[1] - x[0], y[1] - y[0]]) - 0.5)).all(axis=1)]
    boxes = np.column_stack((centres, np.full(len(centres), extent_px, np.float32)))
    here = (slice(*y), slice(*x))
    return LabelledImage(data[here], boxes, background[here])


Ends = tuple[int, int]


def _part(
    micrograph: RealMicrograph, scale: float, rows: float, rng: np.random.Generator
) -> tuple[tuple[Ends, Ends], tuple[Ends, Ends]]:
    """Rows and columns, as stored, of a part of at most `PART_PX` at `scale`, and of what is seen
    with it.
    """
    side, margin = (round(px * LARGEST / scale) for px in (PART_PX, MARGIN_PX))
    inner, outer = [], []
    for length, allowed in zip(micrograph.pixels.shape, (rows, 1.0), strict=True):
        end = round(allowed * length)
        first = int(rng.integers(max(0, end - side) + 1))
        last = min(first + side, end)
        inner.append((first, last))
        outer.append((max(0, first - margin), min(length, last + margin)))
    return (inner[0], inner[1]), (outer[0], outer[1])


def plain(micrograph: RealMicrograph, config: ModelConfig) -> tuple[FloatArray, FloatArray]:
    """The working image `(h, w)` as `gtpick-rt pick` sees it, normalised, and the labels `(m, 2)`
    on it.
    """
    image, centres = at_scale(micrograph, 1.0)
    data = normalise(torch.from_numpy(image)[None], config.highpass_px, config.clip)[0].numpy()
    return data, centres


def at_scale(micrograph: RealMicrograph, scale: float) -> tuple[FloatArray, FloatArray]:
    """Pixels `(h, w)` with nominal diameters `scale` times that of the network, and labels `(m, 2)`
    on them.
    """
    before = np.array(micrograph.pixels.shape)
    height, width = _shape_at(micrograph, scale)
    image = resample(micrograph.pixels, (height, width))
    centres = (micrograph.centres + 0.5) * (np.array([width, height]) / before[::-1]) - 0.5
    return image, centres.astype(np.float32)


def _shape_at(micrograph: RealMicrograph, scale: float) -> tuple[int, int]:
    height, width = (max(1, round(n * scale / LARGEST)) for n in micrograph.pixels.shape)
    return height, width


def _noise(shape: tuple[int, ...], extent_px: float, rng: np.random.Generator) -> torch.Tensor:
    """Noise `(h, w)` of unit variance: white, or coloured as that of detectors and ice."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    slope, corner = torch.tensor([rng.uniform(0, 2)], dtype=torch.float32), torch.tensor([extent_px])
    return detector.coloured_noise((shape[0], shape[1]), slope, corner.float(), generator)[0]
