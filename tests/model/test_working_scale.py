"""The scale of a network is that at which it finds most of what it was not trained on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gtpick_export.to_onnx import make_spec
from gtpick_model import working_scale
from gtpick_model.config import ModelConfig
from gtpick_model.network import GTPick
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles
from gtpick_model.working_scale import BATCH, choose_scale
from gtpick_rt.evaluate.curves import Curve

SCORE = np.array([0.9, 0.8, 0.7, 0.6])
"""Of four detections."""


@pytest.fixture
def network(config: ModelConfig) -> GTPick:
    return GTPick(replace(config, tile_px=96))


def found(right: int) -> Curve:
    """A network that is right with the first of its four detections, of four particles."""
    return Curve(SCORE, np.arange(4) < right, 4)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Validation that answers by the size of the particles, and tells which were asked for."""
    asked: dict[str, Any] = {"simulated": {}, "real": []}
    answers = {24: (2, 4), 20: (3, 4), 17: (4, 2)}

    def tiles(network: GTPick, batches: list[Tiles]) -> Curve:
        sizes = [float(box[:, 2].mean()) for batch in batches for box in batch.boxes if len(box)]
        nearest = min(answers, key=lambda px: abs(px - float(np.mean(sizes))))
        asked["simulated"].setdefault(nearest, []).append((min(sizes), max(sizes), sum(map(len, batches))))
        return found(answers[nearest][0])

    def micrographs(network: GTPick, real: object, diameter_px: float) -> dict[str, Curve]:
        asked["real"].append(diameter_px)
        return {"specimen": found(answers[round(diameter_px)][1])}

    monkeypatch.setattr(working_scale, "score_tiles", tiles)
    monkeypatch.setattr(working_scale, "score_micrographs", micrographs)
    return asked


def test_simulated_particles_alone_choose_where_there_are_no_others(
    network: GTPick, library: ViewLibrary, scripted: dict[str, Any]
) -> None:
    chosen = choose_scale(network, [], library, 2 * BATCH)
    assert chosen.diameter_px == pytest.approx(24 / 1.4)
    assert chosen.sets.keys() == {"clear"}
    assert not scripted["real"]
    for px in (24, 20, 17):
        ((smallest, largest, _),) = scripted["simulated"][px]
        assert px / 1.25 < smallest <= largest < 1.25 * px


def test_each_specimen_weighs_the_same_and_the_best_scale_is_taken(
    network: GTPick, library: ViewLibrary, scripted: dict[str, Any]
) -> None:
    chosen = choose_scale(network, [object()], library, BATCH)  # type: ignore[list-item]
    assert scripted["real"] == pytest.approx([24, 20, 24 / 1.4])
    assert chosen.diameter_px == pytest.approx(20)
    assert chosen.sets.keys() == {"clear", "faint", "specimen"}
    assert chosen.threshold == working_scale.shared_threshold(*chosen.sets.values())


def test_the_spec_looks_at_particles_as_they_are_best_seen(
    network: GTPick, library: ViewLibrary, scripted: dict[str, Any]
) -> None:
    trained = {"threshold": "0.5", "calibration_slope": "1", "calibration_offset": "0"}
    assert make_spec(network, "tiny", "1", trained).diameter_px == 24
    spec = make_spec(network, "tiny", "1", trained | choose_scale(network, [object()], library, BATCH).provenance)  # type: ignore[list-item]
    assert spec.diameter_px == pytest.approx(20)
