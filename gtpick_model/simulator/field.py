"""One simulated field after another: the specimen, its image, and the exact labels."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.simulator import detector, junk
from gtpick_model.simulator.labelling import boxes_of, is_doubtful, is_free
from gtpick_model.simulator.noise import draw_noise
from gtpick_model.simulator.optics import Optics, draw_optics, transfer
from gtpick_model.simulator.packing import Points, pack
from gtpick_model.simulator.views import ViewLibrary, place


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Ranges from which each field draws; a range of equal ends fixes the value."""

    extent_px: tuple[float, float] = (12.5, 28.0)
    """Particle diameter in px of the field (logarithmic)."""
    coverage: tuple[float, float] = (0.03, 1.1)
    """Particles times the square of their diameter, over the area (logarithmic)."""
    dense: float = 0.25
    """Share of fields whose coverage is from the highest third of the range, where small faint
    particles are frozen."""
    snr: tuple[float, float] = (0.0025, 0.3)
    """Signal over noise variance inside particles at a pixel of 1/100 of the diameter
    (logarithmic)."""
    defocus_A: tuple[float, float] = (5e3, 3.2e4)
    empty: float = 0.06
    """Share of fields without particles."""
    junk: float = 1.0
    """Factor on how often there is junk."""
    filtered: float = 0.5
    """Share of fields whose power falls towards the highest frequencies, and of those whose lowest
    frequencies were taken off."""
    prefiltered: float = 0.5
    """Share of fields that look denoised or contrast-equalised."""


DIRT = 1.5
"""Blurred over a particle, a background that deviates by this many standard deviations of its
pixels is not plain ice."""
EMPTY_FIELD_POWER = 0.3
"""Mean square of a particle after the optics, typical of the structures here; sets the noise of a
field without any."""


class Fields(NamedTuple):
    """Simulated fields with labels."""

    images: Tensor
    """`(b, h, w)`, in arbitrary units."""
    boxes: list[Tensor]
    """For each field `(m, 3)`: centre x, y and diameter in px, of the particles to pick."""
    doubtful: list[Tensor]
    """For each field `(m, 3)`: particles of which nobody can say whether they are to pick, at the
    rim of what is forbidden."""
    negatives: list[Tensor]
    """For each field `(m, 3)`: parts of aggregates, and fragments; not to pick."""
    forbidden: Tensor
    """`(b, h, w)` bool: carbon, gold, contamination, filaments and smeared borders; no particle is
    labelled here."""
    pixel_A: Tensor
    """`(b,)`."""
    optics: Optics
    """What each was imaged with."""
    views: list[Tensor]
    """For each field `(m,)`: which of the library's views each particle in `boxes` shows."""


class _Specimen(NamedTuple):
    """What was laid on one field, as arguments of `place`."""

    structure: int
    extent_px: float
    particles: Points
    junk: Points
    junk_extent_px: Points
    junk_structure: NDArray[np.intp]
    views: int
    snr: float


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def simulate(
    library: ViewLibrary,
    count: int,
    shape: tuple[int, int],
    conditions: Conditions,
    seed: tuple[int, ...],
    device: torch.device | None = None,
    kinds: junk.Kinds | None = None,
    backgrounds: Tensor | None = None,
) -> Fields:
    """Simulate `count` fields of `shape` (h, w).

    The same seed gives the same fields, on a GPU up to rounding.

    Args:
        library: the particles to choose from.
        count: of fields.
        shape: of each in px.
        conditions: ranges to draw from.
        seed: decides everything.
        device: where to compute.
        kinds: in place of `junk.KINDS`, the kinds of junk, each with the share of fields that have
            it.
        backgrounds: `(n, h, w)` real images without particles, of robust standard deviation 1, n at
            most `count`: what the first n fields have in place of most of their noise.
    """
    kinds = junk.KINDS if kinds is None else kinds
    rng = np.random.default_rng(seed)
    generator = torch.Generator(device or torch.device("cpu")).manual_seed(int(rng.integers(2**62)))
    specimens = [_lay_out(rng, library, shape, conditions) for _ in range(count)]
    pixel_A = torch.tensor([float(library.extent_A[s.structure]) / s.extent_px for s in specimens], device=device)
    optics = draw_optics(rng, pixel_A, conditions.defocus_A)
    transfers = transfer(optics, shape)
    protein = torch.zeros(count, *shape, device=device)
    drawn_area, view = _draw(rng, protein, library, specimens)
    drawn_area = drawn_area.to(protein.device)
    dirt, forbidden = _draw_junk(rng, specimens, shape, conditions, kinds, generator)
    signal = torch.fft.irfft2(torch.fft.rfft2(protein) * transfers, s=shape)
    power = torch.where(drawn_area > 0, signal.square().sum((1, 2)) / drawn_area, EMPTY_FIELD_POWER)
    signal = signal + torch.fft.irfft2(torch.fft.rfft2(dirt) * transfers, s=shape)
    extent_px = torch.tensor([s.extent_px for s in specimens], device=power.device)
    noise = draw_noise(rng, shape, power, transfers, extent_px, generator)
    if backgrounds is not None:
        forbidden[: len(backgrounds)] |= _lay_on(rng, noise, backgrounds, specimens)
    images = signal + _noise_level(power, specimens) * noise
    images = detector.respond(rng, images, conditions.filtered)
    forbidden |= _process(rng, images, specimens, conditions)
    boxes, doubtful, negatives, views = [], [], [], []
    for i, s in enumerate(specimens):
        free, extents = is_free(s.particles, forbidden[i]), np.full(len(s.particles), s.extent_px)
        boxes.append(boxes_of(s.particles, extents, free, images.device))
        doubted = is_doubtful(s.particles, s.extent_px, forbidden[i])
        doubtful.append(boxes_of(s.particles, extents, doubted, images.device))
        views.append(torch.as_tensor(view[i][: len(s.particles)][free], device=images.device))
        on_field = is_free(s.junk, torch.zeros_like(forbidden[i]))
        negatives.append(boxes_of(s.junk, s.junk_extent_px, on_field, images.device))
    return Fields(images, boxes, doubtful, negatives, forbidden, pixel_A, optics, views)


def _lay_out(
    rng: np.random.Generator, library: ViewLibrary, shape: tuple[int, int], conditions: Conditions
) -> _Specimen:
    """Choose the structure and the places of particles, aggregates and fragments of one field."""
    structure = int(rng.integers(len(library.names)))
    extent = _log_uniform(rng, conditions.extent_px)
    area = shape[0] * shape[1]
    count = 0
    if rng.random() >= conditions.empty:
        low, high = conditions.coverage
        if rng.random() < conditions.dense:
            low *= (high / low) ** (2 / 3)
        count = max(1, round(_log_uniform(rng, (low, high)) * area / extent**2))
    clustering = rng.uniform(0.2, 0.9) if rng.random() < 0.25 else 0.0
    particles = pack(rng, shape, rng.uniform(0.6, 1.05) * extent, count, clustering)
    places, sizes = [np.zeros((0, 2))], [np.zeros(0)]
    if rng.random() < 0.12 * conditions.junk:  # aggregates: particles piled on each other
        for _ in range(int(rng.integers(1, 4))):
            reach = rng.uniform(0.6, 2.0) * extent
            pile = rng.normal(0, reach / 1.5, (int(6 * (reach / extent) ** 2) + 5, 2))
            places.append(pile + rng.uniform(0, (shape[1], shape[0])))
            sizes.append(np.full(len(pile), extent) * rng.uniform(0.6, 1.1))
    if rng.random() < 0.35 * conditions.junk:  # fragments: broken or denatured particles, always much smaller
        broken = pack(rng, shape, 0.5 * extent, int(rng.uniform(0.02, 0.5) * area / extent**2))
        places.append(broken)
        sizes.append(rng.uniform(0.12, 0.38, len(broken)) * extent)
    clutter, clutter_size = np.concatenate(places), np.concatenate(sizes)
    if len(clutter):  # an aggregate swallows the particles in it
        distance = np.linalg.norm(particles[:, None] - clutter[None], axis=-1)
        particles = particles[(distance > 0.35 * (extent + clutter_size)).all(1)]
    kinds = np.where(rng.random(len(clutter)) < 0.5, structure, rng.integers(len(library.names), size=len(clutter)))
    views = int(rng.integers(2, 6)) if rng.random() < 0.2 else library.views.shape[1]  # preferred orientation
    return _Specimen(
        structure, extent, particles, clutter, clutter_size, kinds, views, _log_uniform(rng, conditions.snr)
    )


def _draw(
    rng: np.random.Generator, density: Tensor, library: ViewLibrary, specimens: list[_Specimen]
) -> tuple[Tensor, list[NDArray[np.int64]]]:
    """Draw particles and clutter of all fields.

    Returns the area `(b,)` in px that they cover, times weight squared, and of each field which
    view each shows.
    """
    columns: list[list[NDArray[Any]]] = [[] for _ in range(7)]
    for i, s in enumerate(specimens):
        xy = np.concatenate((s.particles, s.junk))
        n = len(xy)
        extent = np.concatenate((np.full(len(s.particles), s.extent_px), s.junk_extent_px))
        structure = np.concatenate((np.full(len(s.particles), s.structure), s.junk_structure))
        first_view = rng.integers(library.views.shape[1])
        view = (first_view + rng.integers(s.views, size=n)) % library.views.shape[1]
        thickness = rng.normal(1, 0.15, n).clip(0.5, 1.5) * np.minimum(extent / s.extent_px, 1)
        row = (np.full(n, i), structure, view, xy, extent, rng.uniform(0, 2 * np.pi, n), thickness)
        for column, values in zip(columns, row, strict=True):
            column.append(values)
    tile, structure, view, xy, extent, angle, weight = (np.concatenate(c) for c in columns)
    order = np.argsort(extent)  # alike sizes are drawn together, in patches no larger than they need

    def ints(x: NDArray[Any]) -> Tensor:
        return torch.as_tensor(x[order], dtype=torch.long, device=density.device)

    def floats(x: NDArray[Any]) -> Tensor:
        return torch.as_tensor(x[order], dtype=torch.float32, device=density.device)

    arguments = (ints(tile), ints(structure), ints(view), floats(xy), floats(extent), floats(angle), floats(weight))
    for parts in zip(*(a.split(512) for a in arguments), strict=True):
        place(density, library, *parts)
    area = torch.zeros(len(specimens))
    area.index_add_(0, torch.as_tensor(tile), torch.as_tensor(np.pi / 4 * (weight * extent) ** 2).float())
    return area, columns[2]


def _draw_junk(
    rng: np.random.Generator,
    specimens: list[_Specimen],
    shape: tuple[int, int],
    conditions: Conditions,
    kinds: junk.Kinds,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Density of everything that is not protein, and where nothing may be labelled; both `(b, h,
    w)`.
    """
    density = torch.zeros(len(specimens), *shape, device=generator.device)
    forbidden = torch.zeros_like(density, dtype=torch.bool)
    for i, s in enumerate(specimens):
        for kind, share in kinds:
            if rng.random() < share * conditions.junk:
                thing = kind(rng, shape, s.extent_px, generator)
                density[i] += thing.density
                forbidden[i] |= thing.region
    return density, forbidden


def _noise_level(power: Tensor, specimens: list[_Specimen]) -> Tensor:
    """Standard deviation `(b, 1, 1)` of noise for particles of the given mean square `(b,)`."""
    snr = torch.tensor([s.snr * (100 / s.extent_px) ** 2 for s in specimens], device=power.device)
    return (power / snr).sqrt()[:, None, None]


def _lay_on(rng: np.random.Generator, noise: Tensor, backgrounds: Tensor, specimens: list[_Specimen]) -> Tensor:
    """Replace most of the first fields' noise by real backgrounds, in place; returns `(n, h, w)`
    where dirt lies.
    """
    dirt = torch.zeros_like(backgrounds, dtype=torch.bool)
    for i, background in enumerate(backgrounds.to(noise.device)):
        added = rng.uniform(0, 0.5)
        noise[i] = math.sqrt(1 - added) * background + math.sqrt(added) * noise[i]
        smooth = detector.gaussian_blur(background, 0.2 * specimens[i].extent_px)
        dirt[i] = (smooth.abs() > DIRT).to(dirt.device)
    return dirt.to(noise.device)


def _process(rng: np.random.Generator, images: Tensor, specimens: list[_Specimen], conditions: Conditions) -> Tensor:
    """Give each image borders and a look, in place; returns where borders are
    smeared, `(b, h, w)`.
    """
    smeared = torch.zeros_like(images, dtype=torch.bool)
    for i, specimen in enumerate(specimens):
        if rng.random() < 0.2 * conditions.junk:
            images[i], smeared[i] = detector.smear_borders(rng, images[i], specimen.extent_px)
        if rng.random() < conditions.prefiltered:
            images[i] = detector.prefilter(rng, images[i], specimen.extent_px)
    return smeared
