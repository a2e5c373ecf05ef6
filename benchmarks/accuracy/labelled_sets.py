"""The labelled real micrographs that prepare_real.py wrote, as the other scripts read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gtpick_model.network import GTPick
from gtpick_model.real.looks import plain
from gtpick_model.real.specimens import RealMicrograph, Specimen, read_specimen
from gtpick_model.real.teacher import RADIUS, detect_whole
from gtpick_rt.detection.picker import whole
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import Micrograph, Picks


class RealSet(NamedTuple):
    """One prepared folder. Labels are empty where nobody labelled particles."""

    name: str
    specimen: Specimen
    micrographs: list[Micrograph]
    labels: list[Picks]

    @property
    def diameter_px(self) -> float:
        """Nominal diameter in px of its micrographs."""
        return self.specimen.diameter_A / self.micrographs[0].pixel_size_A

    def whole_labels(self) -> list[Picks]:
        """The labels whose circle lies on the micrograph."""
        pairs = zip(self.micrographs, self.labels, strict=True)
        return [whole(labels, micrograph.data.shape, self.diameter_px) for micrograph, labels in pairs]

    def but_every_other(self, half: int | None) -> "RealSet":
        """Without the micrographs of the numbers half, half + 2, ...; all with None."""
        kept = [i for i in range(len(self.micrographs)) if half is None or i % 2 != half]
        return self._replace(micrographs=[self.micrographs[i] for i in kept], labels=[self.labels[i] for i in kept])


def read_set(folder: Path) -> RealSet:
    """Read a prepared folder."""
    specimen, paths = read_specimen(folder), sorted(folder.glob("*.mrc"))
    micrographs = [read_micrograph(path, specimen.pixel_size_A) for path in paths]
    labelled = specimen.particles == "labelled"
    labels = [read_coordinates(path.with_suffix(".csv")) if labelled else Picks.empty() for path in paths]
    return RealSet(folder.name, specimen, micrographs, labels)


def curves_of(network: GTPick, micrographs: Sequence[RealMicrograph], diameter_px: float) -> dict[str, Curve]:
    """What a network finds on labelled micrographs, by folder: whole particles, brought to a
    diameter.
    """
    pairs: dict[str, list[tuple[Picks, Picks]]] = {}
    for each in micrographs:
        data, centres = plain(each, network.config, diameter_px / network.config.nominal_diameter_px)
        ones = np.ones(len(centres), np.float32)
        found = whole(detect_whole(network, data), data.shape, diameter_px)
        wanted = whole(Picks(centres, ones, ones), data.shape, diameter_px)
        pairs.setdefault(each.folder, []).append((found, wanted))
    return {name: curve(each, RADIUS * diameter_px) for name, each in pairs.items()}


def best_of(found: Curve) -> dict[str, float]:
    """F1 at the best threshold, and AP."""
    return {"best_f1": round(found.best()[0], 4), "ap": round(found.average_precision, 4)}
