"""Training on real micrographs beside simulated tiles: what is mixed, what is judged, and that runs
go on.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from gtpick_model import tiles
from gtpick_model.calibration import f1_at, fit_calibration, shared_threshold
from gtpick_model.commands import train
from gtpick_model.config import VARIANTS, ModelConfig
from gtpick_model.metrics import score_tiles
from gtpick_model.network import GTPick
from gtpick_model.real.mixing import RealTiles
from gtpick_model.real.specimens import RealMicrograph, read_folders
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.training import Schedule, Start, Trainer
from gtpick_model.weights import load_weights, save_weights
from gtpick_model.working_scale import CLEAR, FAINT
from gtpick_rt.errors import UsageError
from gtpick_rt.evaluate.curves import Curve

MakeFolder = Callable[..., Path]
SCHEDULE = Schedule(steps=4, batch=4, tile_sizes_px=(64,), warm_up=2, evaluate_every=2, evaluation_tiles=16)
PROVENANCE = {"calibration_slope": "2.0", "calibration_offset": "1.0", "steps": "7"}


@pytest.fixture
def micrographs(make_folder: MakeFolder, config: ModelConfig) -> list[RealMicrograph]:
    return read_folders([make_folder(), make_folder("empty", labels=False, particles="none")], config)


@pytest.fixture
def trainer(
    config: ModelConfig, split: tuple[ViewLibrary, ViewLibrary], micrographs: list[RealMicrograph], tmp_path: Path
) -> Callable[..., Trainer]:
    def make(schedule: Schedule = SCHEDULE, **other: Any) -> Trainer:
        settings: dict[str, Any] = {"real": micrographs} | other
        return Trainer(config, schedule, split, tmp_path / "run", torch.device("cpu"), **settings)

    return make


def test_half_of_a_step_is_real(trainer: Callable[..., Trainer]) -> None:
    nothing_to_doubt = Conditions(junk=0)
    drawn = trainer(replace(SCHEDULE, on_real=0), conditions=nothing_to_doubt)._tiles(0)
    assert drawn.images.shape == (4, 1, 64, 64)
    assert len(drawn.boxes) == 4
    assert drawn.background is not None
    assert (drawn.background[2:] == 1).all()  # of simulated tiles all is known
    quarter = trainer(replace(SCHEDULE, real=0.25, on_real=0), conditions=nothing_to_doubt)._tiles(0)
    assert quarter.background is not None
    assert len(quarter.images) == 4
    assert (quarter.background[1:] == 1).all()


def test_real_figures_choose_the_threshold_and_stand_in_the_curve(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    run = trainer()
    run.run(lambda step: None)
    point = json.loads((tmp_path / "run" / "curve.json").read_text())["curve"][-1]
    assert {"real/discs_f1", "real/discs_best_f1", "real/discs_ap", "faint_f1"} <= set(point)
    assert 0.02 <= point["threshold"] <= 0.98
    assert "real/discs F1" in run.describe()
    provenance = load_weights(tmp_path / "run" / "weights.safetensors")[1]
    assert (provenance["real"], provenance["real_micrographs"]) == ("discs, empty", "4")


def test_a_run_goes_on_as_it_would_have(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer(replace(SCHEDULE, steps=2)).run(lambda step: None)  # as far as the warm-up, alike in both
    steps: list[int] = []
    parted = trainer()
    parted.run(steps.append)
    assert steps == [3, 4]
    (tmp_path / "run").rename(tmp_path / "parted")
    whole = trainer()
    whole.run(lambda step: None)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(parted.average.state_dict()[name], value), name


def test_a_run_goes_on_with_the_same_micrographs_alone(
    trainer: Callable[..., Trainer], micrographs: list[RealMicrograph], tmp_path: Path
) -> None:
    trainer(replace(SCHEDULE, steps=2)).run(lambda step: None)
    labelled_anew = [replace(micrographs[0], centres=micrographs[0].centres[1:]), *micrographs[1:]]
    for others in (micrographs[:3], labelled_anew):
        with pytest.raises(UsageError, match=r"other settings \(real differ\)"):
            trainer(real=others).run(lambda step: None)


def test_a_run_starts_from_trained_weights(trainer: Callable[..., Trainer], config: ModelConfig) -> None:
    start = Start(GTPick(config).eval(), PROVENANCE)
    run = trainer(start=start)
    for name, value in start.network.state_dict().items():
        assert torch.equal(run.network.state_dict()[name], value)
    run.run(lambda step: None)
    assert run._provenance()["start_sha256"] == start.sha256
    other = Start(GTPick(config).eval(), PROVENANCE)
    with pytest.raises(UsageError, match=r"other settings \(start differ\)"):
        trainer(replace(SCHEDULE, steps=6), start=other).run(lambda step: None)


@pytest.mark.parametrize(
    ("provenance", "steps"), [({"steps": "7"}, "7"), ({"base_base_steps": "8"}, "8"), ({"base_tiles": "9"}, "unknown")]
)
def test_a_run_starts_from_weights_that_were_fine_tuned(
    provenance: dict[str, str], steps: str, trainer: Callable[..., Trainer], config: ModelConfig, tmp_path: Path
) -> None:
    trainer(start=Start(GTPick(config).eval(), provenance)).run(lambda step: None)
    assert load_weights(tmp_path / "run" / "weights.safetensors")[1]["start_steps"] == steps


def test_what_nobody_labelled_is_doubted_by_what_scores_are_worth_on_simulation(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer()
    simulated = [score_tiles(run.average, run._evaluation_tiles(conditions)) for conditions in (CLEAR, FAINT)]
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(RealTiles, "follow", lambda self, network, calibration: asked.append(calibration))
    run.run(lambda step: None)
    assert asked[0] == fit_calibration(*simulated)


def test_a_run_ends_with_its_share_of_the_start(
    trainer: Callable[..., Trainer], config: ModelConfig, tmp_path: Path
) -> None:
    start = Start(GTPick(config).eval(), PROVENANCE)
    run = trainer(replace(SCHEDULE, start_share=0.25), start=start)
    run.run(lambda step: None)
    ended, provenance = load_weights(tmp_path / "run" / "weights.safetensors")
    assert provenance["start_share"] == "0.25"
    for name, value in ended.state_dict().items():
        if value.is_floating_point():
            began, learned = start.network.state_dict()[name], run.average.state_dict()[name]
            expected = 0.25 * began + 0.75 * learned
            torch.testing.assert_close(value, expected, atol=1e-3, rtol=1e-3)  # in half precision


@pytest.mark.parametrize("shares", [{"real": 1.0}, {"real": -0.1}, {"on_real": 1.1}, {"start_share": 1.0}])
def test_shares_beyond_their_range_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares must lie between 0 and 1"):
        replace(SCHEDULE, **shares)


def test_particles_are_laid_on_real_backgrounds(library: ViewLibrary) -> None:
    conditions = Conditions(snr=(1e-3, 1e-3), junk=0, filtered=0, prefiltered=0, empty=0)
    backgrounds = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    backgrounds[0, :20, :20] -= 6  # dirt
    plain = simulate(library, 3, (64, 64), conditions, (0,))
    laid = simulate(library, 3, (64, 64), conditions, (0,), backgrounds=backgrounds)
    for i in range(2):
        both = torch.stack((laid.images[i].flatten(), backgrounds[i].flatten()))
        assert torch.corrcoef(both)[0, 1] > 0.5
    assert laid.forbidden[0, 10, 10]
    assert not laid.forbidden[1].any()
    assert not torch.equal(plain.images[0], laid.images[0])


def test_one_threshold_serves_all_sets_alike() -> None:
    easy = Curve(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]), 2)
    faint = Curve(np.array([0.5, 0.4, 0.3]), np.array([True, True, False]), 2)
    threshold = shared_threshold(easy, faint)
    assert 0.3 < threshold <= 0.4
    assert f1_at(easy, threshold) == f1_at(faint, threshold) == 1
    assert f1_at(Curve(np.zeros(0), np.zeros(0, bool), 0), 0.5) == 1


def test_a_threshold_that_ruins_one_set_is_not_taken_for_the_many_that_gain_a_little() -> None:
    crowded = Curve(np.array([0.9, 0.8, 0.35, 0.34, 0.33]), np.array([True, True, False, False, False]), 2)
    faint = Curve(np.array([0.5, 0.45, 0.4, 0.3]), np.array([True, True, True, True]), 4)
    assert 0.35 < shared_threshold(crowded, faint, faint, faint, faint) <= 0.4


def test_a_set_without_particles_does_not_decide_the_threshold() -> None:
    good = Curve(np.array([0.9, 0.8, 0.3]), np.array([True, True, False]), 2)
    nothing = Curve(np.array([0.95]), np.array([False]), 0)
    assert 0.3 < shared_threshold(good, nothing) <= 0.8


def test_sets_weigh_the_same_in_calibration() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.1, 0.9, 4000)
    few = Curve(score[:400], rng.random(400) < 0.9, 1)
    many = Curve(score, rng.random(4000) < 0.1, 1)
    a, b = fit_calibration(few, many)
    half = 1 / (1 + np.exp(-(a * np.log(score / (1 - score)) + b)))
    assert half.mean() == pytest.approx(0.5, abs=0.03)


def test_the_command_trains_on_folders_from_given_weights(
    make_folder: MakeFolder,
    config: ModelConfig,
    split: tuple[ViewLibrary, ViewLibrary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiles, "libraries", lambda folder, procedurals, **_: split)
    monkeypatch.setitem(VARIANTS, "tiny", config)
    save_weights(tmp_path / "start.safetensors", GTPick(config), PROVENANCE)
    app = typer.Typer()
    app.command()(train)
    options = ["--real", make_folder(), "--real", make_folder("empty", labels=False, particles="none")]
    command = [tmp_path / "out", "--steps", 1, "--batch", 2, "--start", tmp_path / "start.safetensors", *options]
    result = CliRunner().invoke(app, list(map(str, command)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    network, provenance = load_weights(tmp_path / "out" / "weights.safetensors")
    assert network.config == config
    assert provenance["real"] == "discs, empty"
    assert "real/discs F1" in result.output
