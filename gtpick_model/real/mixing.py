"""Real crops and real backgrounds for each step of training, from looks that are drawn anew one
after another.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gtpick_model.config import ModelConfig
from gtpick_model.labelled import LabelledImage, at_least_a_tile, crop, stack
from gtpick_model.network import GTPick
from gtpick_model.real.looks import draw_look, plain
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.real.teacher import detect_whole, unlabelled
from gtpick_model.tiles import Backgrounds, Tiles, clear_of
from gtpick_rt.types import FloatArray, Picks

VALIDATION = 0.2
"""Share of each labelled micrograph, its last rows, never trained on: threshold and calibration are
chosen there."""
LABELLED = 0.75
"""Share of real crops that come from labelled micrographs, where there are others that hold no
particle."""
LARGEST_TILE_PX = 256
UNKNOWN_PX = 17
"""Rim of a look where nothing is known: the radius of the largest particles."""
SURELY_EMPTY, MOSTLY = 0.85, 0.6
"""Least certainty that there is no particle, and the least part of a window where it must hold for
simulated ones to be laid on it."""
TRIES = 12


class RealTiles:
    """Crops and backgrounds of real micrographs, at least one of them labelled or without
    particles.

    Of each micrograph there is one look at a time, and at every step one of them is drawn anew.
    Folders are shown equally often, however many micrographs they have. All depends on the step and
    on the last network that was followed alone, so that a resumed run goes on as it would have.
    """

    def __init__(self, micrographs: Sequence[RealMicrograph], config: ModelConfig, seed: tuple[int, ...]) -> None:
        self.micrographs, self.config, self.seed = micrographs, config, seed
        self.looks: list[LabelledImage] = []
        self.doubts = [Picks.empty() for _ in micrographs]
        """What may be a particle without a label on each; scores say how sure it is to be none."""
        self.odds = _odds(micrographs)

    def follow(self, network: GTPick, calibration: tuple[float, float]) -> None:
        """Doubt from now on what `network` sees where nobody labelled anything. No step may be
        drawn meanwhile.
        """
        network.eval()
        by_folder: dict[str, list[int]] = {}
        for i, micrograph in enumerate(self.micrographs):
            if micrograph.particles != "none":
                by_folder.setdefault(micrograph.folder, []).append(i)
        for members in by_folder.values():
            parts = [self._to_train_on(self.micrographs[i]) for i in members]
            found = [detect_whole(network, data, calibration) for data, _ in parts]
            doubts = unlabelled(found, [centres for _, centres in parts], self.config.nominal_diameter_px)
            for i, each in zip(members, doubts, strict=True):
                self.doubts[i] = each
        self.looks.clear()

    def draw(self, count: int, tile_px: int, step: int) -> Tiles:
        """`count` crops of `tile_px` for a step. Steps must come in order."""
        self._refresh(step)
        rng = np.random.default_rng((*self.seed, 1, step))
        chosen = rng.choice(len(self.looks), size=count, p=self.odds)
        return stack([crop(self.looks[i], tile_px, rng) for i in chosen])

    def backgrounds(self, count: int, side_px: int, step: int) -> Backgrounds:
        """Up to `count` windows of `side_px`, most of each surely without particles."""
        rng = np.random.default_rng((*self.seed, 2, step))
        found: list[tuple[FloatArray, FloatArray]] = []
        for _ in range(count * TRIES):
            if len(found) == count:
                break
            window = _window(self.looks[rng.integers(len(self.looks))], side_px, rng)
            if window is not None:
                found.append(window)
        if not found:
            return Backgrounds(*torch.zeros(2, 0, side_px, side_px))
        return Backgrounds(*(torch.from_numpy(np.stack(each)) for each in zip(*found, strict=True)))

    def _refresh(self, step: int) -> None:
        """Draw anew the look whose turn it is; where there are none, each as in its last turn."""
        if self.looks:
            turn = self._turn(step)
            self.looks[turn] = self._look(turn, step)
            return
        last = dict.fromkeys(range(len(self.micrographs)), -1)
        for before in range(step + 1):
            last[self._turn(before)] = before
        self.looks = [self._look(i, turn) for i, turn in last.items()]

    def _turn(self, step: int) -> int:
        """Whose look is drawn anew at a step: every other time one of those that are shown most."""
        rng = np.random.default_rng((*self.seed, 3, step))
        return int(rng.choice(len(self.odds), p=(self.odds + 1 / len(self.odds)) / 2))

    def _look(self, i: int, turn: int) -> LabelledImage:
        rng = np.random.default_rng((*self.seed, 0, turn + 1, i))
        micrograph = self.micrographs[i]
        look = draw_look(micrograph, _rows(micrograph), self.doubts[i], self.config, rng)
        return at_least_a_tile(look, LARGEST_TILE_PX)

    def _to_train_on(self, micrograph: RealMicrograph) -> tuple[FloatArray, FloatArray]:
        """The rows of a micrograph to train on, as picking sees it, and the labels there."""
        data, centres = plain(micrograph, self.config)
        data = data[: round(_rows(micrograph) * len(data))]
        return data, centres[centres[:, 1] < len(data) - 0.5]


def _window(look: LabelledImage, side_px: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray] | None:
    """Pixels of a window, and how sure each is to show no particle; None if too few are."""
    if min(look.data.shape) < side_px + 2 * UNKNOWN_PX:
        return None
    y0, x0 = (int(rng.integers(UNKNOWN_PX, n - side_px - UNKNOWN_PX + 1)) for n in look.data.shape)
    here = (slice(y0, y0 + side_px), slice(x0, x0 + side_px))
    boxes = torch.from_numpy(look.boxes - np.array([x0, y0, 0], np.float32))
    sure = look.background[here] * clear_of(side_px, boxes).numpy()
    return (look.data[here], sure) if (sure >= SURELY_EMPTY).mean() >= MOSTLY else None


def _rows(micrograph: RealMicrograph) -> float:
    """Share of a micrograph's rows, from the first on, that is trained on."""
    return 1 - VALIDATION if micrograph.particles == "labelled" else 1.0


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
