"""One real micrograph in the many looks that it is trained on: part, scale, added noise,
processing.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import LabelledImage, background_map
from gtpick_model.normalise import normalise
from gtpick_model.real.specimens import LARGEST, RealMicrograph
from gtpick_model.simulator import detector
from gtpick_rt.detection.resample import resample
from gtpick_rt.types import FloatArray, Picks

SCALES = (0.7, LARGEST)
PART_PX = 368
"""Side of the part of a micrograph that is looked at: half a dozen tiles of training, or the
background of the largest."""
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
    seen = _see(micrograph, outer, scale)
    pixels = torch.from_numpy(seen.pixels)
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
        xy = seen.place((doubts.xy_px + np.float32(0.5)) * stored - 0.5)
        background = background_map(data.shape, nominal_px, xy, doubts.score)
    first, last = np.rint((inner - seen.corner) * seen.zoom).astype(int)
    centres = seen.place(micrograph.centres) - first.astype(np.float32)
    centres = centres[((centres > -0.5) & (centres < (last - first) - 0.5)).all(axis=1)]
    boxes = np.column_stack((centres, np.full(len(centres), extent_px, np.float32)))
    here = (slice(first[1], last[1]), slice(first[0], last[0]))
    return LabelledImage(data[here], boxes, background[here])


class _Seen(NamedTuple):
    """A part of a micrograph at a scale."""

    pixels: FloatArray
    corner: NDArray[np.intp]
    """x, y of its first pixel, as stored."""
    zoom: NDArray[np.float64]
    """Its pixels for each that is stored, in x and in y."""

    def place(self, xy: NDArray[np.floating]) -> FloatArray:
        """Centres `(n, 2)` of the micrograph, as stored, in px of the part."""
        return np.asarray((xy + 0.5 - self.corner) * self.zoom - 0.5, np.float32)


def _see(micrograph: RealMicrograph, part: NDArray[np.intp], scale: float) -> _Seen:
    """Bring a part, its first and last x, y as stored, to a scale."""
    (x0, y0), (x1, y1) = part
    width, height = (max(1, round(n * scale / LARGEST)) for n in (part[1] - part[0]).tolist())
    pixels = resample(micrograph.pixels[y0:y1, x0:x1], (height, width))
    return _Seen(pixels, part[0], np.array([width, height]) / (part[1] - part[0]))


def _part(
    micrograph: RealMicrograph, scale: float, rows: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A part of at most `PART_PX` at `scale`, and what is seen with it: first and last x, y `(2,
    2)`, as stored.
    """
    side, margin = (round(px * LARGEST / scale) for px in (PART_PX, MARGIN_PX))
    height, width = micrograph.pixels.shape
    most = np.array([width, round(rows * height)])
    y0, x0 = (int(rng.integers(max(0, int(n) - side) + 1)) for n in reversed(most))
    inner = np.array([[x0, y0], np.minimum([x0 + side, y0 + side], most)])
    outer = np.clip(inner + np.array([[-margin], [margin]]), 0, [width, height])
    return inner, outer


def plain(micrograph: RealMicrograph, config: ModelConfig, scale: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """The working image `(h, w)` as `gtpick-rt pick` sees it, normalised, and the labels `(m, 2)`
    on it, with nominal diameters `scale` times that of the network.
    """
    image, centres = at_scale(micrograph, scale)
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
