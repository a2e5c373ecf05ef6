"""Views: uniform rotations, projections that keep the mass, and particles drawn where they are said
to be.
"""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from gtpick_model.simulator.structures import FILL, Structure
from gtpick_model.simulator.views import ViewLibrary, _project, build_library, place, random_rotations

SHAPE = (48, 72)


def draw(
    library: ViewLibrary,
    *xy: tuple[float, float],
    shape: tuple[int, int] = SHAPE,
    extent: float = 16.0,
    angle: float = 0.0,
    weight: float = 1.0,
    structure: int = 0,
    view: int = 0,
) -> Tensor:
    """One canvas with alike particles at `xy`."""
    canvas = torch.zeros(1, *shape)
    n = len(xy)
    whole = [torch.full((n,), value, dtype=torch.long) for value in (0, structure, view)]
    real = [torch.full((n,), value) for value in (extent, angle, weight)]
    place(canvas, library, *whole, torch.tensor(xy).reshape(n, 2), *real)
    return canvas[0]


def centre(image: Tensor) -> list[float]:
    """Centre of mass as x, y."""
    return list(ndimage.center_of_mass(image.numpy()))[::-1]


def test_rotations_are_proper_and_uniform() -> None:
    rotations = random_rotations(3000, torch.Generator().manual_seed(0))
    identity = torch.eye(3).expand(3000, 3, 3)
    torch.testing.assert_close(rotations @ rotations.transpose(1, 2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(3000), atol=1e-5, rtol=0)
    assert rotations.mean(0).abs().max() < 0.05
    torch.testing.assert_close(rotations.square().mean(0), torch.full((3, 3), 1 / 3), atol=0.03, rtol=0)


def test_a_projection_has_the_volumes_mass(ball: Structure) -> None:
    box = np.zeros((32, 32, 32), np.float32)
    box[12:20, 10:22, 14:18] = ndimage.gaussian_filter(np.ones((8, 12, 4), np.float32), 1)
    for volume in (ball.volume, ndimage.gaussian_filter(box, 1)):
        views = _project(torch.from_numpy(volume), 20, torch.Generator().manual_seed(0))
        assert views.shape == (20, 32, 32)
        torch.testing.assert_close(views.sum((1, 2)), torch.full((20,), float(volume.sum())), rtol=0.02, atol=0)


def test_views_show_the_structure_from_different_sides(library: ViewLibrary, balls: ViewLibrary) -> None:
    first, second = library.views[0, :2]
    assert (first - second).abs().mean() > 0.05
    first, second = balls.views[0, :2]
    assert (first - second).abs().mean() < 0.02


def test_views_are_centred_and_of_unit_power_inside_the_particle(library: ViewLibrary) -> None:
    side = library.views.shape[-1]
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = torch.hypot(x - (side - 1) / 2, y - (side - 1) / 2) <= FILL * side / 2
    power = library.views[..., inside].square().mean((1, 2))
    torch.testing.assert_close(power, torch.ones(len(library.names)), rtol=0.01, atol=0)
    for view in library.views.flatten(0, 1):
        assert centre(view) == pytest.approx([(side - 1) / 2] * 2, abs=0.5)


def test_half_views_are_the_views_at_half_the_resolution(library: ViewLibrary) -> None:
    assert library.half_views.shape[-1] * 2 == library.views.shape[-1]
    torch.testing.assert_close(library.half_views.sum((2, 3)) * 4, library.views.sum((2, 3)))


def test_the_same_seed_gives_the_same_views(ball: Structure) -> None:
    same, again, other = (build_library([ball], 2, seed).views for seed in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


@pytest.mark.parametrize("xy", [(40.0, 20.0), (40.5, 20.25), (12.3, 33.9), (59.75, 13.1)])
@pytest.mark.parametrize("extent", [9.0, 16.0])
def test_a_particle_lies_at_its_place_to_a_fraction_of_a_pixel(
    balls: ViewLibrary, xy: tuple[float, float], extent: float
) -> None:
    assert centre(draw(balls, xy, extent=extent)) == pytest.approx(xy, abs=0.05)


def test_every_procedural_particle_lies_at_its_place_at_any_angle(library: ViewLibrary) -> None:
    for structure in range(len(library.names)):
        image = draw(library, (40.3, 20.6), structure=structure, angle=0.7 * structure, view=structure % 6)
        assert centre(image) == pytest.approx((40.3, 20.6), abs=0.35)


@pytest.mark.parametrize("extent", [12.0, 20.0, 30.0])
def test_a_ball_is_drawn_with_its_diameter(balls: ViewLibrary, extent: float) -> None:
    image = draw(balls, (36.0, 24.0), extent=extent)
    y, x = np.indices(SHAPE)
    second_moment = float((image * torch.from_numpy((x - 36) ** 2 + (y - 24) ** 2)).sum() / image.sum())
    # Of a solid ball's projection the mean square distance from the centre is 2/5 of the radius
    # squared.
    assert 2 * math.sqrt(second_moment / 0.4) == pytest.approx(extent, rel=0.1)


def test_the_weight_scales_and_particles_add(balls: ViewLibrary) -> None:
    one, other = draw(balls, (30.0, 20.0)), draw(balls, (36.0, 20.0))
    torch.testing.assert_close(draw(balls, (30.0, 20.0), weight=2.5), 2.5 * one)
    torch.testing.assert_close(draw(balls, (30.0, 20.0), (36.0, 20.0)), one + other)


def test_a_quarter_turn_turns_the_picture(library: ViewLibrary) -> None:
    upright = draw(library, (24.0, 24.0), shape=(49, 49), extent=28.0)
    turned = draw(library, (24.0, 24.0), shape=(49, 49), extent=28.0, angle=math.pi / 2)
    torch.testing.assert_close(turned, torch.rot90(upright, -1), atol=1e-4, rtol=0)
    assert (turned - upright).abs().max() > 0.1


@pytest.mark.parametrize("xy", [(0.0, 20.3), (71.0, 20.3), (30.6, -3.0), (30.6, 47.0), (-2.0, -1.0), (73.0, 48.0)])
def test_a_particle_on_the_border_is_cut_by_it(balls: ViewLibrary, xy: tuple[float, float]) -> None:
    wide = draw(balls, (xy[0] + 20, xy[1] + 20), shape=(SHAPE[0] + 40, SHAPE[1] + 40))
    torch.testing.assert_close(draw(balls, xy), wide[20:-20, 20:-20], atol=1e-4, rtol=0)


def test_one_structure_can_be_taken_out_of_a_library(library: ViewLibrary) -> None:
    one = library.only(2)
    assert one.names == (library.names[2],)
    assert one.extent_A.tolist() == [float(library.extent_A[2])]
    assert torch.equal(draw(one, (30.0, 20.0), extent=30.0), draw(library, (30.0, 20.0), extent=30.0, structure=2))


def test_a_particle_is_drawn_on_its_own_field_alone(balls: ViewLibrary) -> None:
    canvas = torch.zeros(3, *SHAPE)
    one = torch.tensor([1])
    zero = torch.zeros(1, dtype=torch.long)
    place(
        canvas, balls, one, zero, zero, torch.tensor([[3.0, 2.0]]), torch.tensor([16.0]), torch.zeros(1), torch.ones(1)
    )
    assert canvas[1].any()
    assert not canvas[0].any()
    assert not canvas[2].any()


@pytest.mark.parametrize("shape", [(3, 2401, 2403), (1, 4099, 4101)], ids=["many fields", "a large field"])
def test_a_particle_lies_at_its_place_on_fields_of_more_pixels_than_float32_counts(
    balls: ViewLibrary, shape: tuple[int, int, int]
) -> None:
    canvas = torch.zeros(shape)
    assert canvas.numel() > 2**24
    x, y = shape[2] - 40, shape[1] - 30
    last, zero = torch.tensor([shape[0] - 1]), torch.zeros(1, dtype=torch.long)
    xy = torch.tensor([[x + 0.25, y + 0.5]])
    place(canvas, balls, last, zero, zero, xy, torch.tensor([16.0]), torch.zeros(1), torch.ones(1))
    drawn = canvas[-1, y - 20 : y + 28, x - 30 : x + 40]
    torch.testing.assert_close(drawn, draw(balls, (30.25, 20.5), shape=(48, 70)), atol=1e-4, rtol=0)
    assert float(canvas.sum()) == pytest.approx(float(drawn.sum()), rel=1e-4)
