"""How well a network does on the parts of real micrographs that are kept out of training."""

from collections.abc import Sequence

import numpy as np

from gtpick_model.network import GTPick
from gtpick_model.real.looks import plain
from gtpick_model.real.mixing import VALIDATION
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.real.teacher import RADIUS, detect_whole
from gtpick_rt.evaluate.curves import Curve, curve
from gtpick_rt.types import FloatArray, Picks

CONTEXT_PX = 64
"""Seen above the part that counts."""


def score_micrographs(
    network: GTPick, micrographs: Sequence[RealMicrograph], diameter_px: float | None = None
) -> dict[str, Curve]:
    """The precision-recall curve on the last rows of all labelled micrographs of each folder, by
    its name.

    Scores are the network's own; particles and detections count whose circle lies there wholly.
    They are looked at with a diameter of `diameter_px`, or the nominal one.
    """
    network.eval()
    pairs: dict[str, list[tuple[Picks, Picks]]] = {}
    nominal_px = network.config.nominal_diameter_px
    diameter_px = diameter_px or nominal_px
    for micrograph in micrographs:
        if micrograph.particles != "labelled":
            continue
        data, centres = plain(micrograph, network.config, diameter_px / nominal_px)
        cut = round((1 - VALIDATION) * len(data))
        top = max(0, cut - CONTEXT_PX)
        found = detect_whole(network, data[top:])
        ones = np.ones(len(centres), np.float32)
        labels = Picks(centres - np.array([0, top], np.float32), ones, ones)
        shape = (len(data) - top, data.shape[1])
        both = (_whole(found, cut - top, shape, diameter_px), _whole(labels, cut - top, shape, diameter_px))
        pairs.setdefault(micrograph.folder, []).append(both)
    return {folder: curve(each, RADIUS * diameter_px) for folder, each in pairs.items()}


def _whole(picks: Picks, first: int, shape: tuple[int, int], diameter_px: float) -> Picks:
    x, y = _from_corner(picks.xy_px).T
    r = diameter_px / 2
    return picks[(x >= r) & (x <= shape[1] - r) & (y >= first + r) & (y <= shape[0] - r)]


def _from_corner(xy: FloatArray) -> FloatArray:
    return xy + np.float32(0.5)
