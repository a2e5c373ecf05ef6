"""Real crops and real backgrounds for each step of training, from looks that are drawn anew one
after another.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import LabelledImage, at_least_a_tile, crop, stack
from gtpick_model.real.looks import draw_look, plain
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.real.teacher import Teacher
from gtpick_model.tiles import Tiles
from gtpick_rt.types import FloatArray, Picks

VALIDATION = 0.2
"""Share of each labelled micrograph, its last rows, never trained on: threshold and calibration are
chosen there."""
LABELLED = 0.65
"""Share of real crops that come from labelled micrographs, where there are others that hold no
particle."""
LARGEST_TILE_PX = 256
RIM_PX = 17
"""Of a look, where nothing is known: the radius of the largest particles."""
SURELY_EMPTY = 0.85
"""Least certainty, all over a window, that there is no particle, for simulated ones to be laid on
it."""
TRIES = 12


class RealTiles:
    """Crops and backgrounds of real micrographs, at least one of them labelled or without
    particles.

    Of each micrograph there is one look at a time; at every step the oldest is drawn anew, with
    what the teacher thinks of the micrograph by then. Folders are shown equally often, however many
    micrographs they have.
    """

    def __init__(
        self,
        micrographs: Sequence[RealMicrograph],
        teacher: Teacher,
        config: ModelConfig,
        seed: tuple[int, ...],
    ) -> None:
        self.micrographs, self.teacher, self.config = micrographs, teacher, config
        self.seed = seed
        self.looks: list[LabelledImage] = []
        self.doubts: dict[int, tuple[int, Picks]] = {}
        """By micrograph: the teacher's opinion of that number."""
        self.odds = _odds(micrographs)

    def draw(self, count: int, tile_px: int, step: int) -> Tiles:
        """`count` crops of `tile_px` for a step. Steps must come in order."""
        self._refresh(step)
        rng = np.random.default_rng((*self.seed, 1, step))
        chosen = rng.choice(len(self.looks), size=count, p=self.odds)
        return stack([crop(self.looks[i], tile_px, rng) for i in chosen])

    def backgrounds(self, count: int, side_px: int, step: int) -> Tensor:
        """Up to `count` windows `(n, side_px, side_px)`, normalised, on which there is surely no
        particle.
        """
        rng = np.random.default_rng((*self.seed, 2, step))
        found: list[FloatArray] = []
        for _ in range(count * TRIES):
            if len(found) == count:
                break
            window = self._window(self.looks[rng.integers(len(self.looks))], side_px, rng)
            if window is not None:
                found.append(window)
        if not found:
            return torch.zeros(0, side_px, side_px)
        return torch.from_numpy(np.stack(found))

    def _window(self, look: LabelledImage, side_px: int, rng: np.random.Generator) -> FloatArray | None:
        if min(look.data.shape) < side_px + 2 * RIM_PX:
            return None
        y0, x0 = (int(rng.integers(RIM_PX, n - side_px - RIM_PX + 1)) for n in look.data.shape)
        here = (slice(y0, y0 + side_px), slice(x0, x0 + side_px))
        centre = np.array([x0, y0]) + side_px / 2 - 0.5
        on_it = (np.abs(look.boxes[:, :2] - centre) < (side_px + look.boxes[:, 2:]) / 2).all(axis=1)
        return None if on_it.any() or look.background[here].min() < SURELY_EMPTY else look.data[here]

    def _refresh(self, step: int) -> None:
        while len(self.looks) < len(self.micrographs):
            self.looks.append(self._look(len(self.looks), step))
        i = step % len(self.micrographs)
        self.looks[i] = self._look(i, step)

    def _look(self, i: int, step: int) -> LabelledImage:
        micrograph = self.micrographs[i]
        rng = np.random.default_rng((*self.seed, 0, step, i))
        rows = 1 - VALIDATION if micrograph.particles == "labelled" else 1.0
        look = draw_look(micrograph, rows, self._doubts(i, rows), self.config, rng)
        return at_least_a_tile(look, LARGEST_TILE_PX)

    def _doubts(self, i: int, rows: float) -> Picks:
        micrograph = self.micrographs[i]
        if micrograph.particles == "none":
            return Picks.empty()
        opinion = self.teacher.opinion
        if i not in self.doubts or self.doubts[i][0] != opinion:
            data, centres = plain(micrograph, self.config)
            data = data[: round(rows * len(data))]
            centres = centres[centres[:, 1] < len(data) - 0.5]
            found = self.teacher.doubts(data, centres, self.config.nominal_diameter_px, micrograph.folder)
            self.doubts[i] = (opinion, found)
        return self.doubts[i][1]


def _odds(micrographs: Sequence[RealMicrograph]) -> NDArray[np.float64]:
    """How often each is shown: folders of a kind equally often, those of which nothing is known
    never.
    """
    share = {"labelled": LABELLED, "none": 1 - LABELLED, "unlabelled": 0.0}
    folders = {kind: [each.folder for each in micrographs if each.particles == kind] for kind in share}
    odds = [
        share[each.particles] / len(set(folders[each.particles])) / folders[each.particles].count(each.folder)
        for each in micrographs
    ]
    return np.array(odds) / sum(odds)
