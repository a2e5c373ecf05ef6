"""The benchmark of class averages finds the projection that one shows, and tells RELION the
optics as they are."""

import numpy as np
import pytest
import torch

from benchmarks.interoperability import projections, relion_classes
from gtpick_model.simulator.optics import Optics
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.views import build_library, place

DIAMETER_PX = relion_classes.DIAMETER


def test_a_projection_is_found_again_turned_shifted_and_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "VIEWS", 6)
    monkeypatch.setattr(projections, "STEP_DEG", 30)
    structure, n, one = procedural(4, 48), 56, torch.ones(1)
    library = build_library([structure], 6, seed=projections.SEED)
    canvas, zero = torch.zeros(1, n, n), torch.zeros(1, dtype=torch.long)
    turn = one * float(np.radians(120))
    size = one * DIAMETER_PX
    place(canvas, library, zero, zero, zero + 4, torch.full((1, 2), float(n // 2)), size, turn, one)
    seen = torch.fft.irfft2(torch.fft.rfft2(canvas) * projections.first_peak(n, 5.0), s=(n, n))
    average = seen.roll((1, -1), (1, 2)).flip(2).numpy()
    (found,) = projections.most_alike(average, structure, DIAMETER_PX, 5.0)
    assert found.correlation > 0.95
    np.testing.assert_allclose(found.image, average[0], atol=1e-4)
    (other,) = projections.most_alike(average, procedural(1, 48), DIAMETER_PX, 5.0)
    assert other.correlation < found.correlation - 0.05


def test_relion_is_told_the_optics_of_the_field() -> None:
    """Defocus as greatest and least, of which the relative difference is the simulator's
    astigmatism."""
    values = (2.0, 300.0, 1.5e4, 0.1, np.pi / 6, 0.1, np.pi / 2, 100.0)
    row = relion_classes.optics_row(Optics(*(torch.tensor([value]) for value in values)))
    assert [float(word) for word in row.split()] == pytest.approx([2, 15750, 14250, 30, 90], abs=0.01)
