"""Folders of real micrographs to train on, each of one specimen, described by a `specimen.json`
beside the images.

`{"diameter_A": 191}` is enough where headers have the pixel size and every micrograph has labels;
crystalline ice is `{"diameter_A": 170, "pixel_size_A": 8.5, "particles": "none"}`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gtpick_model.config import ModelConfig
from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.detection.merge import merge
from gtpick_rt.detection.resample import resample
from gtpick_rt.errors import UsageError
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.formats.coordinates import read_coordinate_set
from gtpick_rt.formats.table import micrograph_name
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph, Picks

DESCRIPTION = "specimen.json"
LARGEST = 1.4
"""Most that a particle is enlarged beyond its nominal diameter in training; micrographs are kept at
this scale."""
SAME = 0.3
"""Labels within this fraction of the diameter are of one particle."""

Particles = Literal["labelled", "unlabelled", "none"]
"""What is known of a micrograph: labels, nothing, or that no particle is on it. Nothing is learned
from one of which nothing is known, for it may be full of faint particles: where surely none is seen
it lends background."""


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """What a folder's `specimen.json` says. Raises ValueError when a field is out of range."""

    diameter_A: float
    """Diameter as for `gtpick-rt pick`: labels match within a fraction of it."""
    extent_A: float | None = None
    """Longest extent of the particle itself, which the network learns to report; `diameter_A`
    unless given."""
    pixel_size_A: float | None = None
    """Unless the images' headers are right."""
    particles: Particles = "labelled"
    contrast: Literal["dark", "bright"] = "dark"

    def __post_init__(self) -> None:
        lengths = {"diameter_A": self.diameter_A, "extent_A": self.extent_A, "pixel_size_A": self.pixel_size_A}
        for name, value in lengths.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a positive number of Å, got {value}")
        if self.particles not in get_args(Particles):
            raise ValueError(f"particles must be one of {', '.join(get_args(Particles))}, got {self.particles!r}")
        if self.contrast not in ("dark", "bright"):
            raise ValueError(f"contrast must be dark or bright, got {self.contrast!r}")


@dataclass(frozen=True, eq=False)
class RealMicrograph:
    """One micrograph, its particles dark, at `LARGEST` times the working scale."""

    folder: str
    name: str
    pixels: FloatArray
    """`(h, w)`, in arbitrary units."""
    centres: FloatArray
    """`(m, 2)` x, y of the labels, in px of `pixels`."""
    extent: float
    """Longest extent of the particles over their nominal diameter."""
    particles: Particles

    @cached_property
    def sha256(self) -> str:
        """Of pixels and labels."""
        return hashlib.sha256(self.pixels.tobytes() + self.centres.tobytes()).hexdigest()


def read_specimen(folder: Path) -> Specimen:
    """Read a folder's `specimen.json`.

    Raises UsageError when it is missing or says something else.
    """
    path = folder / DESCRIPTION
    example = '{"diameter_A": 191}'
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        return Specimen(**fields)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; describe the particles of this folder there: {example}") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}; write it like this: {example}") from error


def read_folders(folders: Sequence[Path], config: ModelConfig) -> list[RealMicrograph]:
    """Read the micrographs of several folders, in a stable order.

    Raises UsageError: a description, micrographs or labels are missing, folders have the same name,
    or nothing is known of any; and MicrographError.
    """
    names = [folder.resolve().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several folders of real micrographs are called {', '.join(twice)}; rename one")
    read = [each for folder in folders for each in _read_folder(folder, config)]
    if read and all(each.particles == "unlabelled" for each in read):
        raise UsageError(
            f"nothing can be learned from {', '.join(names)}: add a folder with labels, or without particles"
        )
    return read


def _read_folder(folder: Path, config: ModelConfig) -> list[RealMicrograph]:
    specimen = read_specimen(folder)
    jobs = sorted(find_jobs([str(folder)]).jobs, key=lambda job: job.name)
    paths = [job.path for job in jobs]
    labels = _labels(folder, paths) if specimen.particles == "labelled" else {}
    read = []
    for path in paths:
        micrograph = read_micrograph(path, specimen.pixel_size_A)
        picks = labels.get(micrograph_name(path.name), Picks.empty())
        read.append(_at_largest(folder.resolve().name, micrograph, picks, specimen, config))
    return read


def _labels(folder: Path, paths: Sequence[Path]) -> dict[str, Picks]:
    """Labels by the micrographs' names."""
    files = find_coordinates(folder).files
    missing = [path.name for path in paths if micrograph_name(path.name) not in files]
    if missing:
        raise UsageError(
            f"{folder}: no labels for {', '.join(missing)}; add a file of the same name for each, one without rows "
            f'where there is no particle, or say "particles": "none" or "unlabelled" in {DESCRIPTION}'
        )
    return read_coordinate_set({micrograph_name(path.name): files[micrograph_name(path.name)] for path in paths}).picks


def _at_largest(
    folder: str, micrograph: Micrograph, labels: Picks, specimen: Specimen, config: ModelConfig
) -> RealMicrograph:
    zoom = LARGEST * config.nominal_diameter_px * micrograph.pixel_size_A / specimen.diameter_A
    shape = np.array(micrograph.data.shape)
    height, width = (max(1, round(n * zoom)) for n in shape.tolist())
    pixels = resample(micrograph.data, (height, width))
    scale = np.array([width, height]) / shape[::-1]
    diameter_px = np.full(len(labels), specimen.diameter_A / micrograph.pixel_size_A, np.float32)
    once = merge(Picks(labels.xy_px, diameter_px, labels.score), SAME)
    centres = (once.xy_px + 0.5) * scale - 0.5
    return RealMicrograph(
        folder,
        micrograph.path.name,
        -pixels if specimen.contrast == "bright" else pixels,
        centres.astype(np.float32),
        (specimen.extent_A or specimen.diameter_A) / specimen.diameter_A,
        specimen.particles,
    )
