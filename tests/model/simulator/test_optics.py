"""The contrast transfer function against what the microscope's formula says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gtpick_model.simulator.optics import Optics, transfer, wavelength_A

SHAPE = (384, 512)


@pytest.fixture
def optics() -> Optics:
    """300 kV, 1.5 µm underfocus, 2 Å pixels, no envelope."""
    values = {
        "pixel_A": 2.0,
        "voltage_kV": 300.0,
        "defocus_A": 1.5e4,
        "astigmatism": 0.0,
        "astigmatism_angle": 0.0,
        "amplitude_contrast": 0.1,
        "phase_shift": 0.0,
        "b_factor_A2": 0.0,
    }
    return Optics(**{name: torch.tensor([value]) for name, value in values.items()})


def zeros(row: Tensor, step: float) -> list[float]:
    """Frequencies at which samples `step` apart change their sign."""
    i = torch.nonzero(row[1:] * row[:-1] < 0)[:, 0]
    return (step * (i + row[i] / (row[i] - row[i + 1]))).tolist()


def expected_zero(defocus_A: float, phase: float, order: int = 1) -> float:
    """Solve pi lambda k^2 (defocus - Cs lambda^2 k^2 / 2) + phase = order pi for k."""
    wave, cs = float(wavelength_A(torch.tensor(300.0))), 2.7e7
    k2 = np.roots([-0.5 * math.pi * cs * wave**3, math.pi * wave * defocus_A, phase - order * math.pi])
    return math.sqrt(min(k2[k2 > 0]))


@pytest.mark.parametrize(("kilovolts", "angstrom"), [(200, 0.02508), (300, 0.01969)])
def test_the_electrons_wavelength(kilovolts: float, angstrom: float) -> None:
    assert float(wavelength_A(torch.tensor(float(kilovolts)))) == pytest.approx(angstrom, rel=1e-3)


@pytest.mark.parametrize("phase_plate", [0.0, 1.0])
def test_the_first_zero_is_where_the_formula_has_it_along_both_axes(optics: Optics, phase_plate: float) -> None:
    ctf = transfer(replace(optics, phase_shift=torch.tensor([phase_plate])), SHAPE)[0]
    expected = expected_zero(1.5e4, phase_plate + math.asin(0.1))
    assert ctf.shape == (384, 257)
    assert zeros(ctf[0, :], 1 / (512 * 2))[0] == pytest.approx(expected, rel=0.01)
    assert zeros(ctf[:192, 0], 1 / (384 * 2))[0] == pytest.approx(expected, rel=0.01)


def test_spherical_aberration_moves_the_higher_zeros(optics: Optics) -> None:
    found = zeros(transfer(optics, (512, 2048))[0, 0], 1 / (2048 * 2))
    expected = [expected_zero(1.5e4, math.asin(0.1), order) for order in range(1, 17)]
    assert found[:16] == pytest.approx(expected, rel=1e-3)


def test_astigmatism_moves_the_zeros_along_its_own_axis(optics: Optics) -> None:
    """More defocus along y, so the first zero comes earlier there."""
    astigmatic = replace(optics, astigmatism=torch.tensor([0.2]), astigmatism_angle=torch.tensor([math.pi / 2]))
    ctf = transfer(astigmatic, SHAPE)[0]
    phase = math.asin(0.1)
    assert zeros(ctf[:192, 0], 1 / (384 * 2))[0] == pytest.approx(expected_zero(1.65e4, phase), rel=0.01)
    assert zeros(ctf[0, :], 1 / (512 * 2))[0] == pytest.approx(expected_zero(1.35e4, phase), rel=0.01)


def test_particles_are_dark(optics: Optics) -> None:
    ctf = transfer(optics, SHAPE)[0]
    assert float(ctf[0, 0]) == pytest.approx(-0.1)
    assert (ctf[:6, :6] < 0).all()


def test_the_envelope_damps_high_frequencies(optics: Optics) -> None:
    plain = transfer(optics, SHAPE)
    damped = transfer(replace(optics, b_factor_A2=torch.tensor([200.0])), SHAPE)
    k = 100 / (512 * 2)
    assert float(damped[0, 0, 100] / plain[0, 0, 100]) == pytest.approx(math.exp(-200 * k**2 / 4), rel=1e-4)
    assert float(damped[0, 0, 0]) == float(plain[0, 0, 0])


def test_each_field_has_its_own_optics(optics: Optics) -> None:
    """Of two fields the second has pixels twice as large, so that its samples lie
    twice as dense.
    """
    two = {name: value.repeat(2) for name, value in vars(optics).items() if isinstance(value, Tensor)}
    both = transfer(Optics(**two | {"pixel_A": torch.tensor([2.0, 4.0])}), SHAPE)
    torch.testing.assert_close(both[:1], transfer(optics, SHAPE))
    torch.testing.assert_close(both[1, 0, :200:2], both[0, 0, :100], atol=1e-3, rtol=0)
