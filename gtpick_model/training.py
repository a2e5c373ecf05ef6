"""Training: every step simulates fresh tiles, and cuts others out of real micrographs where there
are any.

A run can be stopped at any time and resumed from its last evaluation.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from gtpick_model.calibration import f1_at, fit_calibration, shared_threshold
from gtpick_model.config import ModelConfig
from gtpick_model.labelled import join
from gtpick_model.learner import Learner, Pace
from gtpick_model.metrics import score_tiles
from gtpick_model.network import GTPick
from gtpick_model.real.mixing import RealTiles
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.real.validation import score_micrographs
from gtpick_model.resuming import refuse_others, settings_of
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import RIM_PX, Tiles, make_tiles
from gtpick_model.weights import mean_of, save_weights
from gtpick_model.working_scale import BATCH, CLEAR, FAINT, WorkingScale, choose_scale, validation_tiles
from gtpick_rt.evaluate.curves import Curve
from gtpick_rt.files.atomic import write_atomic


@dataclass(frozen=True, kw_only=True)
class Schedule(Pace):
    """How long and how hard to train."""

    tile_sizes_px: tuple[int, ...] = (128, 128, 128, 128, 128, 128, 128, 256)
    """Sizes taken in turn: mostly smaller tiles than at inference, which are cheaper and as
    instructive."""
    evaluate_every: int = 500
    evaluation_tiles: int = 96
    real: float = 0.5
    """Share of the tiles of a step that are cut out of real micrographs, where there are any."""
    on_real: float = 0.4
    """Share of the simulated tiles whose particles are laid on real backgrounds, where there are
    any."""
    start_share: float = 0.5
    """Of the weights with which a run begins, in those with which it ends: half-way, much of what
    was learned of a few specimens is there, and more of what holds for others
    (benchmarks/accuracy/start_share.py)."""

    def __post_init__(self) -> None:
        if self.evaluation_tiles < BATCH:
            raise ValueError(f"at least {BATCH} evaluation tiles are needed, got {self.evaluation_tiles}")
        if not (0 <= self.real < 1 and 0 <= self.on_real <= 1 and 0 <= self.start_share < 1):
            raise ValueError(
                f"shares must lie between 0 and 1, got real {self.real}, on_real {self.on_real}, "
                f"start_share {self.start_share}"
            )


@dataclass(frozen=True, eq=False)
class Start:
    """The trained network with which a run begins."""

    network: GTPick
    provenance: dict[str, str]

    @property
    def sha256(self) -> str:
        """Of its weights."""
        digest = hashlib.sha256()
        for value in self.network.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def steps(self) -> str:
        """For which it was trained; of what was fine-tuned or adapted, those of what it is of."""
        return next((n for name, n in self.provenance.items() if name.replace("base_", "") == "steps"), "unknown")


class Trainer(Learner):
    """One training run in one folder: `state.safetensors`, `curve.json`, `weights.safetensors`.

    The weights of each evaluation stay beside them, as `step_<step>.safetensors`.
    """

    def __init__(
        self,
        config: ModelConfig,
        schedule: Schedule,
        libraries: tuple[ViewLibrary, ViewLibrary],
        folder: Path,
        device: torch.device,
        conditions: Conditions | None = None,
        real: Sequence[RealMicrograph] = (),
        start: Start | None = None,
    ) -> None:
        self.config, self.schedule, self.folder = config, schedule, folder
        self.conditions = conditions or Conditions()
        self.train_library, self.validation_library = (library.to(device) for library in libraries)
        torch.manual_seed(schedule.seed)
        network = GTPick(config)
        if start:
            network.load_state_dict(start.network.state_dict())
        super().__init__(network.to(device), schedule)
        self.curve: list[dict[str, float]] = []
        self.working: WorkingScale | None = None
        self._simulated: list[Curve] | None = None  # what is found on simulated tiles, since the last evaluation
        self.micrographs, self.start = list(real), start
        self.real = RealTiles(self.micrographs, config, (schedule.seed, 5)) if real else None
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, on_step: Callable[[int], None]) -> None:
        """Train to the end of the schedule, from where the folder's state left off.

        `on_step(step)` after each step.
        """
        self._resume()
        steps, every = self.schedule.steps, self.schedule.evaluate_every
        if self.step >= steps:
            return
        evaluation = self._evaluation_tiles(CLEAR)
        faint = self._evaluation_tiles(FAINT) if self.micrographs else None
        before = self.curve[-1]["seconds"] if self.curve else 0.0
        started = time.monotonic()
        losses: list[float] = []

        def after(loss: float) -> None:
            losses.append(loss)
            if self.step == until:
                self._evaluate(evaluation, faint, losses, before + time.monotonic() - started)
                losses.clear()
                self._save()
            on_step(self.step)

        while self.step < steps:
            until = min(steps, (self.step // every + 1) * every)
            if self.real:
                self.real.follow(self.average, self._calibration(evaluation, faint))
            self.learn(self._tiles, after, until)

    def _calibration(self, evaluation: list[Tiles], faint: list[Tiles] | None) -> tuple[float, float]:
        """What makes the present scores probabilities, by simulation alone: of real particles those
        without a label are not known.
        """
        if self._simulated is None:
            self._simulated = [score_tiles(self.average, tiles) for tiles in (evaluation, faint) if tiles]
        return fit_calibration(*self._simulated)

    def _tiles(self, step: int) -> Tiles:
        """The tiles of a step: the next ones are simulated while the network learns from these."""
        schedule = self.schedule
        tile_px = schedule.tile_sizes_px[step % len(schedule.tile_sizes_px)]
        count = max(1, round(schedule.batch * (min(schedule.tile_sizes_px) / tile_px) ** 2))
        seed = (schedule.seed, 0, step)
        if self.real is None or count == 1:  # no room for both
            return make_tiles(self.train_library, count, tile_px, self.config, self.conditions, seed, self.device)
        real = min(max(1, round(schedule.real * count)), count - 1)
        drawn = self.real.draw(real, tile_px, step)
        backgrounds = self.real.backgrounds(round(schedule.on_real * (count - real)), tile_px + 2 * RIM_PX, step)
        simulated = make_tiles(
            self.train_library, count - real, tile_px, self.config, self.conditions, seed, self.device, backgrounds
        )
        return join(drawn.to(self.device), simulated)

    def _result(self) -> GTPick:
        """The network as this run would leave it now."""
        if self.start is None or self.step < self.schedule.steps:
            return self.average
        kept = self.schedule.start_share
        return mean_of([self.start.network.to(self.device), self.average], [kept, 1 - kept])

    def _evaluate(self, tiles: list[Tiles], faint: list[Tiles] | None, losses: list[float], seconds: float) -> None:
        network = self._result()
        scored = score_tiles(network, tiles)
        f1, threshold = scored.best()
        others = {f"real/{name}": scored for name, scored in score_micrographs(network, self.micrographs).items()}
        self._simulated = [scored]
        if faint:
            others["faint"] = score_tiles(network, faint)
            self._simulated.append(others["faint"])
            threshold = shared_threshold(scored, *others.values())
        slope, offset = fit_calibration(scored, *others.values())
        self.curve.append(
            {
                "step": self.step,
                "loss": sum(losses) / len(losses),
                "best_f1": f1,
                "threshold": threshold,
                "ap": scored.average_precision,
                "calibration_slope": slope,
                "calibration_offset": offset,
                "seconds": seconds,
            }
        )
        for name, found in others.items():
            figures = {"f1": f1_at(found, threshold), "best_f1": found.best()[0], "ap": found.average_precision}
            self.curve[-1] |= {f"{name}_{figure}": value for figure, value in figures.items()}
        if self.step >= self.schedule.steps:
            count = self.schedule.evaluation_tiles
            self.working = choose_scale(network, self.micrographs, self.validation_library, count)

    def describe(self) -> str:
        """The last evaluation in one line."""
        last = self.curve[-1]
        figures = f"best F1 {last['best_f1']:.3f} at {last['threshold']:.2f}, AP {last['ap']:.3f}"
        others = [name.removesuffix("_ap") for name in last if name.endswith("_ap")]
        rows = [f"{name} F1 {last[f'{name}_f1']:.3f}, best {last[f'{name}_best_f1']:.3f}" for name in others]
        scale = [f"best seen at {self.working.diameter_px:.3g} px"] if self.working else []
        return "; ".join([f"step {last['step']}: held-out structures: {figures}", *rows, *scale])

    def _evaluation_tiles(self, conditions: Conditions) -> list[Tiles]:
        count = self.schedule.evaluation_tiles
        return validation_tiles(self.validation_library, self.config, conditions, count, self.device)

    def _save(self) -> None:
        """Write curve and weights, then the state: the step it names is the one from which the run
        goes on.
        """
        state: dict[str, Tensor] = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        write_atomic(
            self.folder / "curve.json", json.dumps({**self._settings(), "curve": self.curve}, indent=1).encode()
        )
        result = self._result()
        for name in (f"step_{self.step:06d}", "weights"):
            save_weights(self.folder / f"{name}.safetensors", result, self._provenance())
        whole = save({k: v.contiguous() for k, v in state.items()}, metadata={"step": str(self.step)})
        write_atomic(self.folder / "state.safetensors", whole)

    def _settings(self) -> dict[str, Any]:
        """All that must not change within a run; the number of steps may."""
        start = self.start.sha256 if self.start else None
        names = self.train_library.names
        return settings_of(self.config, self.schedule, self.conditions, self.micrographs, start, names)

    def _provenance(self) -> dict[str, str]:
        last = self.curve[-1]
        learned = {
            "steps": str(self.step),
            "tiles_128px": str(round(self.step * self.schedule.batch * (min(self.schedule.tile_sizes_px) / 128) ** 2)),
            "structures": str(len(self.train_library.names)),
            "seed": str(self.schedule.seed),
            "minutes": f"{last['seconds'] / 60:.0f}",
            "date": time.strftime("%Y-%m-%d"),
            "threshold": f"{last['threshold']:.4f}",
            "calibration_slope": f"{last['calibration_slope']:.4f}",
            "calibration_offset": f"{last['calibration_offset']:.4f}",
            "held_out_best_f1": f"{last['best_f1']:.4f}",
            "held_out_ap": f"{last['ap']:.4f}",
        }
        if self.working:
            learned |= self.working.provenance
        if self.micrographs:
            learned["real"] = ", ".join(sorted({each.folder for each in self.micrographs}))
            learned["real_micrographs"] = str(len(self.micrographs))
        if self.start:
            learned |= {"start_sha256": self.start.sha256, "start_steps": self.start.steps}
            if self.step >= self.schedule.steps:
                learned["start_share"] = f"{self.schedule.start_share:g}"
        return learned

    def _resume(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        run = json.loads((self.folder / "curve.json").read_text())
        refuse_others(self.folder, self._settings())
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
