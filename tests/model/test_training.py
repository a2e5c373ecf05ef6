"""Training runs: they learn, and one that was interrupted ends as if it had not been."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from gtpick_model import training, working_scale
from gtpick_model.config import ModelConfig
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles
from gtpick_model.training import Schedule, Trainer
from gtpick_model.weights import load_weights
from gtpick_model.working_scale import SCALES
from gtpick_rt.errors import UsageError

MakeTrainer = Callable[..., Trainer]
SCHEDULE = Schedule(steps=6, batch=4, tile_sizes_px=(64,), warm_up=2, evaluate_every=3, evaluation_tiles=16)
EASY = Conditions(snr=(0.3, 1.0), junk=0, filtered=0, prefiltered=0)


class Interrupted(Exception):
    """What a user's Ctrl-C or a power cut does to a run."""


@pytest.fixture
def trainer(config: ModelConfig, split: tuple[ViewLibrary, ViewLibrary], tmp_path: Path) -> MakeTrainer:
    """A function that makes the trainer of a run in a folder of this name."""

    def make(
        name: str,
        schedule: Schedule = SCHEDULE,
        network: ModelConfig = config,
        conditions: Conditions = EASY,
        structures: ViewLibrary = split[0],
    ) -> Trainer:
        return Trainer(network, schedule, (structures, split[1]), tmp_path / name, torch.device("cpu"), conditions)

    return make


def ignore(step: int) -> None:
    """Nobody watches."""


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def curve_of(folder: Path) -> list[dict[str, float]]:
    curve = json.loads((folder / "curve.json").read_text())["curve"]
    return [{name: value for name, value in point.items() if name != "seconds"} for point in curve]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(trainer: MakeTrainer, tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 5:
            raise Interrupted

    trainer("whole").run(ignore)
    with pytest.raises(Interrupted):
        trainer("parts").run(stop)
    steps: list[int] = []
    resumed = trainer("parts")
    resumed.run(steps.append)
    assert steps == [4, 5, 6]
    assert resumed.step == 6
    assert curve_of(tmp_path / "parts") == curve_of(tmp_path / "whole")
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_a_run_with_a_longer_schedule_goes_on(trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer("run", replace(SCHEDULE, steps=3)).run(ignore)
    trainer("run", replace(SCHEDULE, steps=6)).run(ignore)
    assert [point["step"] for point in curve_of(tmp_path / "run")] == [3, 6]


@pytest.mark.parametrize("steps", [3, 2])
def test_a_finished_run_is_left_as_it_is(
    steps: int, trainer: MakeTrainer, simulated: list["Simulated"], tmp_path: Path
) -> None:
    trainer("run", replace(SCHEDULE, steps=3)).run(ignore)
    before = weights_of(tmp_path / "run"), curve_of(tmp_path / "run")
    simulated.clear()
    seen: list[int] = []
    again = trainer("run", replace(SCHEDULE, steps=steps))
    again.run(seen.append)
    assert seen == []
    assert simulated == []
    after = weights_of(tmp_path / "run"), curve_of(tmp_path / "run")
    assert before[1] == after[1]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert again.describe().startswith("step 3: held-out structures: best F1")


@pytest.mark.parametrize("file", ["save_weights", "save"], ids=["weights", "state"])
def test_a_crash_between_two_files_does_not_mix_two_states(
    file: str, trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes at step 6 before this file is written; the others tell of step 6
    or of step 3.
    """
    trainer("whole").run(ignore)

    def crash(*_: object, **__: object) -> None:
        raise Interrupted

    def stop(step: int) -> None:
        if step == 3:
            monkeypatch.setattr(training, file, crash)

    with pytest.raises(Interrupted):
        trainer("run").run(stop)
    monkeypatch.undo()
    assert int(load_file(tmp_path / "run" / "state.safetensors")["optimiser.0.step"]) == 3
    assert [point["step"] for point in curve_of(tmp_path / "run")] == [3, 6]
    assert load_weights(tmp_path / "run" / "weights.safetensors")[1]["steps"] == (
        "3" if file == "save_weights" else "6"
    )
    steps: list[int] = []
    trainer("run").run(steps.append)
    assert steps == [4, 5, 6]
    assert curve_of(tmp_path / "run") == curve_of(tmp_path / "whole")


def test_the_time_of_a_run_adds_up_over_resumes(
    trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 60))
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(clock), strftime=lambda _: "today"))
    trainer("run", replace(SCHEDULE, steps=3)).run(ignore)
    trainer("run", replace(SCHEDULE, steps=4)).run(ignore)
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())["curve"]
    assert [point["seconds"] for point in curve] == [60, 120]
    assert load_weights(tmp_path / "run" / "weights.safetensors")[1]["minutes"] == "2"


def test_half_of_the_cores_train_and_all_are_given_back(trainer: MakeTrainer) -> None:
    threads: list[int] = []

    def stop(step: int) -> None:
        threads.append(torch.get_num_threads())
        raise Interrupted

    torch.set_num_threads(4)
    with pytest.raises(Interrupted):
        trainer("run", replace(SCHEDULE, steps=2)).run(stop)
    assert threads == [2]
    assert torch.get_num_threads() == 4


def test_every_evaluation_is_on_the_curve(trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer("run", replace(SCHEDULE, steps=4)).run(ignore)
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())["curve"]
    assert [list(point) for point in curve] == [
        ["step", "loss", "best_f1", "threshold", "ap", "calibration_slope", "calibration_offset", "seconds"]
    ] * 2
    for point in curve:
        assert 0 <= point["best_f1"] <= 1
        assert 0 <= point["ap"] <= 1


def test_the_seed_decides_the_run(trainer: MakeTrainer, tmp_path: Path) -> None:
    short = replace(SCHEDULE, steps=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name))
        trainer(name, replace(short, seed=seed)).run(ignore)
    first, again, other = (weights_of(tmp_path / name) for name in "abc")
    assert all(torch.allclose(first[name].float(), again[name].float(), atol=1e-3) for name in first)
    assert not all(torch.allclose(first[name].float(), other[name].float(), atol=1e-3) for name in first)


def test_the_loss_falls(trainer: MakeTrainer, tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, steps=40, batch=8, learning_rate=3e-3, warm_up=5, evaluate_every=10)
    trainer("run", schedule).run(ignore)
    losses = [point["loss"] for point in curve_of(tmp_path / "run")]
    assert len(losses) == 4
    assert losses[-1] < 0.75 * losses[0]


def test_the_finished_weights_are_the_average_and_say_how_they_came_about(
    trainer: MakeTrainer, config: ModelConfig, split: tuple[ViewLibrary, ViewLibrary], tmp_path: Path
) -> None:
    run = trainer("run", replace(SCHEDULE, steps=3))
    run.run(ignore)
    network, provenance = load_weights(tmp_path / "run" / "weights.safetensors")
    assert network.config == config
    for name, value in run.average.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value.half().to(value.dtype), msg=name)
    trained = run.network.state_dict()
    assert any(not torch.allclose(value, trained[name]) for name, value in run.average.state_dict().items())
    assert provenance["steps"] == "3"
    assert provenance["structures"] == str(len(split[0].names))
    assert 0 <= float(provenance["threshold"]) <= 1
    assert run.working
    assert provenance.items() >= run.working.provenance.items()


def test_a_folder_with_another_run_is_refused(
    trainer: MakeTrainer, config: ModelConfig, library: ViewLibrary, tmp_path: Path
) -> None:
    trainer("run", replace(SCHEDULE, steps=1)).run(ignore)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    others: list[tuple[str, dict[str, Any]]] = [
        ("config", {"network": replace(config, decoder_layers=1)}),
        ("schedule", {"schedule": replace(SCHEDULE, batch=5)}),
        ("schedule", {"schedule": replace(SCHEDULE, seed=1)}),
        ("conditions", {"conditions": Conditions()}),
        ("structures", {"structures": library.only(0)}),
        ("config, conditions", {"network": replace(config, clip=5.0), "conditions": Conditions()}),
    ]
    for changed, other in others:
        with pytest.raises(UsageError, match=rf"run holds a run .* \({changed} differ\); train into a new folder"):
            trainer("run", **other).run(ignore)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("tiles", [0, 15])
def test_too_few_tiles_to_evaluate_on_are_refused(tiles: int) -> None:
    with pytest.raises(ValueError, match=f"at least 16 evaluation tiles are needed, got {tiles}"):
        replace(SCHEDULE, evaluation_tiles=tiles)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    schedule = Schedule(steps=1000, learning_rate=2e-3, warm_up=100)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert max(rates) == rates[100] == pytest.approx(2e-3)
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx(2e-3 * 0.505, rel=0.01)
    assert schedule.rate(1000) == pytest.approx(2e-5)


class Simulated(NamedTuple):
    """What the trainer asked the simulator for."""

    structures: tuple[str, ...]
    count: int
    tile_px: int
    seed: tuple[int, ...]


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[Simulated]:
    """Every simulation of a run: first the evaluation's, then one for each step, the next step's
    ahead of time, and at last those at other scales.
    """
    seen: list[Simulated] = []
    make_tiles = training.make_tiles

    def spy(
        library: ViewLibrary,
        count: int,
        tile_px: int,
        config: ModelConfig,
        conditions: Conditions,
        seed: tuple[int, ...],
        device: torch.device,
        **zoom: float,
    ) -> Tiles:
        seen.append(Simulated(library.names, count, tile_px, seed))
        return make_tiles(library, count, tile_px, config, conditions, seed, device, **zoom)

    for module in (training, working_scale):
        monkeypatch.setattr(module, "make_tiles", spy)
    return seen


def test_evaluation_sees_held_out_structures_alone(
    trainer: MakeTrainer, split: tuple[ViewLibrary, ViewLibrary], simulated: list[Simulated]
) -> None:
    trainer("run", replace(SCHEDULE, steps=2)).run(ignore)
    train, test = (library.names for library in split)
    evaluation, *steps = simulated[: -len(SCALES)]
    for seen in (evaluation, *simulated[-len(SCALES) :]):
        assert (seen.structures, seen.count, seen.tile_px) == (test, 16, 64)
    assert {step.structures for step in steps} == {train}


def test_every_step_sees_tiles_that_no_other_and_no_evaluation_sees(
    trainer: MakeTrainer, simulated: list[Simulated]
) -> None:
    trainer("run", replace(SCHEDULE, steps=4)).run(ignore)
    steps = {seen.seed for seen in simulated[1 : -len(SCALES)]}
    assert len(steps) == len(simulated) - 1 - len(SCALES) >= 4
    assert not steps & {seen.seed for seen in (simulated[0], *simulated[-len(SCALES) :])}


def test_tile_sizes_take_turns_and_every_step_sees_the_same_area(
    trainer: MakeTrainer, simulated: list[Simulated]
) -> None:
    trainer("run", replace(SCHEDULE, steps=3, tile_sizes_px=(64, 64, 128))).run(ignore)
    assert [(s.count, s.tile_px) for s in simulated[1:4]] == [(4, 64), (4, 64), (1, 128)]
