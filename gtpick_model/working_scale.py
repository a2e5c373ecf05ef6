"""At which scale a trained network is to look at micrographs, and what its scores are worth there.

Training shows particles of many sizes; how large they are best seen afterwards is a matter of the
network and of noise. So is decided once, when training ends, on what is left out of it: held-out
structures, clear and faint, and the last rows of real micrographs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from gtpick_model.calibration import fit_calibration, shared_threshold
from gtpick_model.config import ModelConfig
from gtpick_model.metrics import score_tiles
from gtpick_model.network import GTPick
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.real.validation import score_micrographs
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles, make_tiles
from gtpick_rt.evaluate.curves import Curve

BATCH = 16
CLEAR = Conditions(snr=(0.01, 0.3))
FAINT = Conditions(snr=(0.002, 0.02), coverage=(0.3, 1.0), defocus_A=(5e3, 1.5e4))
"""Small dense particles of low contrast, as membrane proteins near focus are."""
SCALES = (1.0, 1 / 1.2, 1 / 1.4)
"""Diameters to look at particles with, over the nominal one."""
GIVEN_WITHIN = 1.2
"""Factor by which the longest extent of particles may differ from the diameter that users give."""


class WorkingScale(NamedTuple):
    """How a network is run."""

    diameter_px: float
    """Of a particle of the diameter that is given."""
    threshold: float
    """Of the network's own scores."""
    calibration: tuple[float, float]
    """Slope and offset that make them probabilities."""
    sets: dict[str, Curve]
    """What was found on each of the validation sets."""

    @property
    def best_f1(self) -> float:
        """At the best threshold of each set, their mean."""
        return float(np.mean([found.best()[0] for found in self.sets.values()]))

    @property
    def provenance(self) -> dict[str, str]:
        """What stands of it beside the weights."""
        figures = {
            "diameter_px": self.diameter_px,
            "threshold": self.threshold,
            "calibration_slope": self.calibration[0],
            "calibration_offset": self.calibration[1],
            "held_out_best_f1": self.sets["clear"].best()[0],
            "held_out_ap": self.sets["clear"].average_precision,
        }
        return {name: f"{value:.4f}" for name, value in figures.items()}


def choose_scale(
    network: GTPick,
    micrographs: Sequence[RealMicrograph],
    library: ViewLibrary,
    tiles: int,
    on_tried: Callable[[WorkingScale], None] = lambda tried: None,
) -> WorkingScale:
    """Find the scale at which the mean best F1 is highest, and the threshold and calibration there.

    Args:
        network: the network, trained.
        micrographs: their last rows are looked at; where there are none, so are no faint particles.
        library: structures on which it was not trained.
        tiles: to simulate for each set and scale.
        on_tried: is told of each scale.
    """
    nominal_px = network.config.nominal_diameter_px
    tried = [_look(network, micrographs, library, tiles, scale * nominal_px) for scale in SCALES]
    for each in tried:
        on_tried(each)
    return max(tried, key=lambda each: each.best_f1)


def _look(
    network: GTPick, micrographs: Sequence[RealMicrograph], library: ViewLibrary, tiles: int, diameter_px: float
) -> WorkingScale:
    nominal_px, device = network.config.nominal_diameter_px, next(network.parameters()).device

    def simulated(conditions: Conditions) -> Curve:
        conditions = replace(conditions, extent_px=(nominal_px / GIVEN_WITHIN, nominal_px * GIVEN_WITHIN))
        zoom = diameter_px / nominal_px  # of the same fields, for others would differ more by chance than by scale
        return score_tiles(network, validation_tiles(library, network.config, conditions, tiles, device, zoom))

    sets = {"clear": simulated(CLEAR)}
    if micrographs:
        sets |= {"faint": simulated(FAINT)} | score_micrographs(network, micrographs, diameter_px)
    curves = tuple(sets.values())
    return WorkingScale(diameter_px, shared_threshold(*curves), fit_calibration(*curves), sets)


def validation_tiles(
    library: ViewLibrary,
    config: ModelConfig,
    conditions: Conditions,
    count: int,
    device: torch.device,
    zoom: float = 1.0,
) -> list[Tiles]:
    """Batches of simulated tiles, `count` in all, the same for every network."""
    return [
        make_tiles(library, BATCH, config.tile_px, config, conditions, (1, 1, i), device, zoom=zoom)
        for i in range(count // BATCH)
    ]
