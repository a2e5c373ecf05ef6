"""Procedural particles: compact chains, rings, dihedral assemblies, shells, rods and discs, made
from a seed.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gtpick_model.simulator.structures import Structure, points_to_density, to_canonical

Points = NDArray[np.float64]
BEAD_A = 6.0


def procedural(index: int, side: int) -> Structure:
    """The structure number `index`; kind, symmetry and size all follow from the number."""
    rng = np.random.default_rng([20251016, index])
    points = _kind(index)(rng)
    weight = rng.uniform(0.7, 1.3, len(points))
    return to_canonical(procedural_name(index), points_to_density(points, weight, 4.0, BEAD_A), 4.0, side)


def procedural_name(index: int) -> str:
    """The name of the structure number `index`, without making it."""
    return f"procedural-{_kind(index).__name__[1:]}-{index}"


def _kind(index: int) -> Callable[[np.random.Generator], Points]:
    kinds = (_chain, _ring, _dihedral, _shell, _rod, _lobes)
    return kinds[index % len(kinds)]


def _chain(rng: np.random.Generator) -> Points:
    """A compact random walk drawn towards its own centre: a globular protein of 50-400 kDa."""
    count = int(np.exp(rng.uniform(np.log(60), np.log(500))))
    pull = rng.uniform(0.02, 0.08)
    stretch = np.exp(rng.normal(0, 0.25, 3))
    points = np.zeros((count, 3))
    for i in range(1, count):
        points[i] = points[i - 1] * (1 - pull) + rng.normal(0, BEAD_A, 3)
    return np.asarray(points * stretch)


def _copies(unit: Points, angles: Points, axis: str = "z") -> Points:
    return np.concatenate([Rotation.from_euler(axis, a).apply(unit) for a in angles])


def _ring(rng: np.random.Generator) -> Points:
    """Cn assembly of a globular unit about an axis, open or closed in the middle."""
    fold = int(rng.integers(2, 13))
    unit = _chain(rng) * rng.uniform(0.6, 1.0)
    reach = np.ptp(unit, axis=0).mean() * fold / (2 * np.pi) * rng.uniform(0.6, 1.2)
    unit = unit - unit.mean(0) + [max(reach, 12.0), 0, 0]
    return _copies(unit, 2 * np.pi * np.arange(fold) / fold)


def _dihedral(rng: np.random.Generator) -> Points:
    """Dn assembly: two rings back to back."""
    ring = _ring(rng)
    ring[:, 2] += rng.uniform(0.3, 0.6) * np.ptp(ring[:, 2])
    return np.concatenate((ring, Rotation.from_euler("x", np.pi).apply(ring)))


def _shell(rng: np.random.Generator) -> Points:
    """A hollow, slightly faceted ball: ferritin, encapsulin, a capsid; sometimes with a cargo."""
    radius = rng.uniform(50, 190)
    thickness = rng.uniform(8, 30)
    count = int(min(4 * np.pi * radius**2 / 60, 6000))
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    corners = rng.normal(size=(12, 3))
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    facet = 1 + rng.uniform(0, 0.15) * ((direction @ corners.T).max(1) - 0.8)
    shell = direction * (radius * facet + rng.uniform(-thickness / 2, thickness / 2, count))[:, None]
    if rng.random() < 0.3:
        cargo = rng.normal(0, 0.3 * radius, (int(count * rng.uniform(0.1, 0.8)), 3))
        return np.concatenate((shell, cargo))
    return shell


def _rod(rng: np.random.Generator) -> Points:
    """A rod, barrel or disc, full or tubular."""
    radius, length = rng.uniform(15, 90), rng.uniform(20, 220)
    hole = rng.uniform(0, 0.7) * (rng.random() < 0.5)
    count = int(min(np.pi * radius**2 * length / 500, 5000)) + 60
    angle = rng.uniform(0, 2 * np.pi, count)
    r = radius * np.sqrt(rng.uniform(hole**2, 1, count))
    return np.stack((r * np.cos(angle), r * np.sin(angle), rng.uniform(-length / 2, length / 2, count)), axis=1)


def _lobes(rng: np.random.Generator) -> Points:
    """A few unequal globular domains side by side: antibodies, receptors, multi-subunit enzymes."""
    lobes = []
    centre = np.zeros(3)
    for _ in range(int(rng.integers(2, 7))):
        lobe = _chain(rng)
        lobes.append(lobe - lobe.mean(0) + centre)
        step = rng.normal(size=3)
        centre = centre + step / np.linalg.norm(step) * np.ptp(lobe, axis=0).mean() * rng.uniform(0.5, 0.9)
    return np.concatenate(lobes)
