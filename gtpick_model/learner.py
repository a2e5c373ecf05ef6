"""Learning from tiles, step by step: what training on simulated tiles and fine-tuning have in
common.
"""

import copy
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gtpick_model.criterion import total_loss
from gtpick_model.network import GTPick
from gtpick_model.tiles import Tiles


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many steps, and how long each is."""

    steps: int
    batch: int = 32
    """Tiles of the smallest size per step; larger ones come in batches of the same area."""
    learning_rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    ema: float = 0.998
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a half cosine to one hundredth."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class Learner:
    """A network that learns, and the running average of its weights: the one to use."""

    def __init__(self, network: GTPick, pace: Pace) -> None:
        self.network, self.pace = network, pace
        self.device = next(network.parameters()).device
        self.average = copy.deepcopy(network)
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=pace.learning_rate, weight_decay=pace.weight_decay)
        self.step = 0

    def learn(
        self, make_tiles: Callable[[int], Tiles], on_step: Callable[[float], None], until: int | None = None
    ) -> None:
        """Go on until `until` steps are done, by default all.

        `make_tiles(step)` runs one step ahead in a thread, but not beyond `until`; `on_step(loss)`
        after each.
        """
        end = self.pace.steps if until is None else until
        with ThreadPoolExecutor(max_workers=1) as ahead, _half_of_the_cores():
            pending = [ahead.submit(make_tiles, self.step)] if self.step < end else []
            while pending:
                tiles = pending.pop().result()
                if self.step + 1 < end:
                    pending.append(ahead.submit(make_tiles, self.step + 1))
                loss = self._take_step(tiles)
                self.step += 1
                on_step(loss)

    def _take_step(self, tiles: Tiles) -> float:
        pace = self.pace
        torch.manual_seed(pace.seed * 1_000_003 + self.step)  # a resumed run goes on as it would have
        gain = 0.75 + 0.6 * torch.rand(len(tiles.images), 1, 1, 1, device=self.device)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            outputs = self.network((tiles.images * gain).contiguous(memory_format=torch.channels_last))
        loss = total_loss(outputs, tiles.boxes, self.network.config, tiles.background)
        for group in self.optimiser.param_groups:
            group["lr"] = pace.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), pace.clip_norm)
        self.optimiser.step()
        self._follow(min(pace.ema, (self.step + 1) / (self.step + 10)))
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        """Move the averaged weights towards the trained ones."""
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether arithmetic in bfloat16 pays: processors without instructions for it take ten times as
    long.
    """
    if device.type != "cpu":
        return True
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _half_of_the_cores() -> Iterator[None]:
    """Leave half of the cores to the thread that makes tiles: two pools on the same cores wait for
    each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
