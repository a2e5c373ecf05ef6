"""The data sets that a network adapts itself to in the benchmark, and how gains are told."""

import numpy as np
import pytest

from benchmarks.accuracy import adaptation_simulated, suite
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.views import build_library

NAME = "procedural-lobes-1085"


def test_a_data_set_is_of_one_specimen_at_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(suite.SHAPE, "small", (90, 130))
    monkeypatch.setitem(suite.EXTENT_PX, "small", 16)
    library = build_library([procedural(1085, 24)], 8, seed=1)
    data = adaptation_simulated.simulated(library, NAME, "small", 0.03, 1)
    assert len(data.micrographs) == len(data.labels) == adaptation_simulated.MICROGRAPHS
    assert len({each.pixel_size_A for each in data.micrographs}) == 1
    sparse, _, crowded, _ = (len(each) for each in data.labels)
    assert sparse < crowded
    assert not np.array_equal(data.micrographs[0].data, data.micrographs[3].data)  # of the same density
    assert data.diameter_px == pytest.approx(16)


def test_what_is_refused_gains_nothing() -> None:
    rows = {
        "a": {"before": {"default": {"f1": 0.5}}, "after": {"default": {"f1": 0.6}}},
        "b": {"before": {"default": {"f1": 0.5}}, "after": {"default": {"f1": 0.46}}},
        "c": {"before": {"default": {"f1": 0.1}}, "refused": "too faint"},
    }
    assert adaptation_simulated.summary(rows) == {"adapted": 2, "mean_gain": 0.02, "least_gain": -0.04}
