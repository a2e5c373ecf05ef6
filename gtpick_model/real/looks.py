"""One real micrograph in the many looks that it is trained on: part, scale, added noise, processing."""

import math

import numpy as np
import torch

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import LabelledImage
from gtpick_model.normalise import normalise
from gtpick_model.real.specimens import LARGEST, RealMicrograph
from gtpick_model.real.teacher import Teacher
from gtpick_model.simulator import detector
from gtpick_rt.resample import resample
from gtpick_rt.types import FloatArray

SCALES = (0.7, LARGEST)
PART_PX = 448
"""Side of the part of a micrograph that is looked at: a dozen tiles of training."""
NOISY, PROCESSED = 0.5, 0.3
"""Share of looks with noise added, and of those that look denoised or contrast-equalised."""
NOISE = (0.2, 2.0)
"""Standard deviation of added noise, in those of the image (logarithmic)."""


def draw_look(
    micrograph: RealMicrograph, rows: float, teacher: Teacher, config: ModelConfig, rng: np.random.Generator
) -> LabelledImage:
    """One look of a part of a micrograph, with its labels, and how sure the rest is to be background.

    Args:
        micrograph: the micrograph.
        rows: share of its rows, from the first on, that the part may lie in.
        teacher: says what is seen besides the labels.
        config: of the network.
        rng: decides part, scale and processing.
    """
    scale = math.exp(rng.uniform(math.log(SCALES[0]), math.log(SCALES[1])))
    image, centres = at_scale(micrograph, scale)
    pixels = torch.from_numpy(image)
    nominal_px = scale * config.nominal_diameter_px
    extent_px = nominal_px * micrograph.extent
    if rng.random() < NOISY:
        level = math.exp(rng.uniform(*np.log(NOISE)))
        pixels = pixels + pixels.std() * level * _noise(image.shape, extent_px, rng)
    if rng.random() < PROCESSED:
        pixels = detector.prefilter(rng, pixels, extent_px)
    data = normalise(pixels[None], config.highpass_px, config.clip)[0].numpy()
    data, centres = _part(data[: round(rows * len(data))], centres, rng)
    if micrograph.particles == "none":
        background = np.ones_like(data)
    else:
        background = teacher.background(data, centres, nominal_px, micrograph.folder)
    boxes = np.column_stack((centres, np.full(len(centres), extent_px, np.float32)))
    return LabelledImage(data, boxes, background)


def _part(data: FloatArray, centres: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """A window of at most `PART_PX` at a random place, and the labels `(m, 2)` that lie on it."""
    height, width = (min(n, PART_PX) for n in data.shape)
    y0, x0 = int(rng.integers(len(data) - height + 1)), int(rng.integers(data.shape[1] - width + 1))
    moved = centres - np.array([x0, y0], np.float32)
    on_it = ((moved > -0.5) & (moved < np.array([width, height]) - 0.5)).all(axis=1)
    return data[y0 : y0 + height, x0 : x0 + width], moved[on_it]


def plain(micrograph: RealMicrograph, config: ModelConfig) -> tuple[FloatArray, FloatArray]:
    """The working image `(h, w)` as `gtpick-rt pick` sees it, normalised, and the labels `(m, 2)` on it."""
    image, centres = at_scale(micrograph, 1.0)
    data = normalise(torch.from_numpy(image)[None], config.highpass_px, config.clip)[0].numpy()
    return data, centres


def at_scale(micrograph: RealMicrograph, scale: float) -> tuple[FloatArray, FloatArray]:
    """Pixels `(h, w)` with nominal diameters `scale` times that of the network, and labels `(m, 2)` on them."""
    before = np.array(micrograph.pixels.shape)
    height, width = (max(1, round(n * scale / LARGEST)) for n in before.tolist())
    image = resample(micrograph.pixels, (height, width))
    centres = (micrograph.centres + 0.5) * (np.array([width, height]) / before[::-1]) - 0.5
    return image, centres.astype(np.float32)


def _noise(shape: tuple[int, ...], extent_px: float, rng: np.random.Generator) -> torch.Tensor:
    """Noise `(h, w)` of unit variance: white, or coloured as that of detectors and ice."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    slope, corner = torch.tensor([rng.uniform(0, 2)], dtype=torch.float32), torch.tensor([extent_px])
    return detector.coloured_noise((shape[0], shape[1]), slope, corner.float(), generator)[0]
