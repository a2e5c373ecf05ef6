"""Training: every step simulates fresh tiles; a run can be stopped at any time and resumed from its last evaluation."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from gtpick_model.config import ModelConfig
from gtpick_model.criterion import total_loss
from gtpick_model.metrics import score_tiles
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles, make_tiles
from gtpick_model.weights import save_weights
from gtpick_rt.commit import write_atomic
from gtpick_rt.errors import UsageError

EVALUATION_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train."""

    steps: int
    batch: int = 32
    """Tiles of the smallest size per step; larger ones come in batches of the same area."""
    tile_sizes_px: tuple[int, ...] = (128, 128, 128, 128, 128, 128, 128, 256)
    """Sizes taken in turn: mostly smaller tiles than at inference, which are cheaper and as instructive."""
    learning_rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    ema: float = 0.998
    evaluate_every: int = 500
    evaluation_tiles: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if self.evaluation_tiles < EVALUATION_BATCH:
            raise ValueError(f"at least {EVALUATION_BATCH} evaluation tiles are needed, got {self.evaluation_tiles}")

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a half cosine to one hundredth."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class Trainer:
    """One training run in one folder: `state.safetensors`, `curve.json` and, at the end, `weights.safetensors`."""

    def __init__(
        self,
        config: ModelConfig,
        schedule: Schedule,
        libraries: tuple[ViewLibrary, ViewLibrary],
        folder: Path,
        device: torch.device,
        conditions: Conditions | None = None,
    ) -> None:
        self.config, self.schedule, self.folder, self.device = config, schedule, folder, device
        self.conditions = conditions or Conditions()
        self.train_library, self.test_library = (library.to(device) for library in libraries)
        torch.manual_seed(schedule.seed)
        self.network = GTPick(config).to(device)
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.step = 0
        self.curve: list[dict[str, float]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, on_step: Callable[[int], None]) -> None:
        """Train to the end of the schedule, from where the folder's state left off; `on_step(step)` after each step."""
        self._resume()
        if self.step >= self.schedule.steps:
            return
        evaluation = self._evaluation_tiles()
        before = self.curve[-1]["seconds"] if self.curve else 0.0
        started, losses = time.monotonic(), []
        with ThreadPoolExecutor(max_workers=1) as ahead, _half_of_the_cores():
            pending = ahead.submit(self._tiles, self.step)
            while self.step < self.schedule.steps:
                tiles, pending = pending.result(), ahead.submit(self._tiles, self.step + 1)
                losses.append(self._train_step(tiles))
                self.step += 1
                if self.step % self.schedule.evaluate_every == 0 or self.step == self.schedule.steps:
                    self._evaluate(evaluation, losses, before + time.monotonic() - started)
                    losses = []
                    self._save()
                on_step(self.step)
            pending.cancel()

    def _tiles(self, step: int) -> Tiles:
        """The tiles of a step: the next ones are simulated while the network learns from these."""
        schedule = self.schedule
        tile_px = schedule.tile_sizes_px[step % len(schedule.tile_sizes_px)]
        count = max(1, round(schedule.batch * (min(schedule.tile_sizes_px) / tile_px) ** 2))
        return make_tiles(
            self.train_library,
            count,
            tile_px,
            self.config,
            self.conditions,
            (schedule.seed, 0, step),
            self.device,
        )

    def _evaluate(self, tiles: list[Tiles], losses: list[float], seconds: float) -> None:
        scored = score_tiles(self.average, tiles)
        f1, threshold = scored.best()
        self.curve.append(
            {
                "step": self.step,
                "loss": sum(losses) / len(losses),
                "best_f1": f1,
                "threshold": threshold,
                "ap": scored.average_precision,
                "seconds": seconds,
            }
        )

    def describe(self) -> str:
        """The last evaluation in one line."""
        last = self.curve[-1]
        figures = f"best F1 {last['best_f1']:.3f} at {last['threshold']:.2f}, AP {last['ap']:.3f}"
        return f"step {last['step']}: held-out structures: {figures}"

    def _train_step(self, tiles: Tiles) -> float:
        schedule = self.schedule
        torch.manual_seed(schedule.seed * 1_000_003 + self.step)  # a resumed run goes on as it would have
        gain = 0.75 + 0.6 * torch.rand(len(tiles.images), 1, 1, 1, device=self.device)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.network((tiles.images * gain).contiguous(memory_format=torch.channels_last))
        loss = total_loss(outputs, tiles.boxes, self.config)
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), schedule.clip_norm)
        self.optimiser.step()
        self._follow(min(schedule.ema, (self.step + 1) / (self.step + 10)))
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        """Move the averaged weights towards the trained ones."""
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _evaluation_tiles(self) -> list[Tiles]:
        """Tiles of held-out structures, the same for every run; SNR from where people can see particles."""
        conditions = Conditions(snr=(0.01, 0.3))
        return [
            make_tiles(
                self.test_library,
                EVALUATION_BATCH,
                self.config.tile_px,
                self.config,
                conditions,
                (1, 1, i),
                self.device,
            )
            for i in range(self.schedule.evaluation_tiles // EVALUATION_BATCH)
        ]

    def _save(self) -> None:
        """Write curve and weights, then the state: the step it names is the one from which the run goes on."""
        state: dict[str, Tensor] = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        write_atomic(
            self.folder / "curve.json", json.dumps({**self._settings(), "curve": self.curve}, indent=1).encode()
        )
        save_weights(self.folder / "weights.safetensors", self.average, self._provenance())
        whole = save({k: v.contiguous() for k, v in state.items()}, metadata={"step": str(self.step)})
        write_atomic(self.folder / "state.safetensors", whole)

    def _settings(self) -> dict[str, Any]:
        """All that must not change within a run; the number of steps may."""
        schedule = {name: value for name, value in asdict(self.schedule).items() if name != "steps"}
        settings = {
            "config": asdict(self.config),
            "schedule": schedule,
            "conditions": asdict(self.conditions),
            "structures": self.train_library.names,
        }
        return dict(json.loads(json.dumps(settings)))

    def _provenance(self) -> dict[str, str]:
        last = self.curve[-1]
        return {
            "steps": str(self.step),
            "tiles_128px": str(round(self.step * self.schedule.batch * (min(self.schedule.tile_sizes_px) / 128) ** 2)),
            "structures": str(len(self.train_library.names)),
            "seed": str(self.schedule.seed),
            "minutes": f"{last['seconds'] / 60:.0f}",
            "date": time.strftime("%Y-%m-%d"),
            "threshold": f"{last['threshold']:.4f}",
            "held_out_best_f1": f"{last['best_f1']:.4f}",
            "held_out_ap": f"{last['ap']:.4f}",
        }

    def _resume(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        run = json.loads((self.folder / "curve.json").read_text())
        changed = [name for name, value in self._settings().items() if run.get(name) != value]
        if changed:
            raise UsageError(
                f"{self.folder} holds a run of another network or with other settings ({', '.join(changed)} differ); "
                "train into a new folder or remove it"
            )
        state = load_file(path)
        for name, module in (("network", self.network), ("average", self.average)):
            prefix = name + "."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        with safe_open(path, framework="pt") as file:
            self.step = int(file.metadata()["step"])
        self.curve = [point for point in run["curve"] if point["step"] <= self.step]


@contextmanager
def _half_of_the_cores() -> Iterator[None]:
    """Leave half of the cores to the thread that simulates: two pools on the same cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
