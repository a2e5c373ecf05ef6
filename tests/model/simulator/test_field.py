"""Simulated fields: the same seed gives the same field, and a label lies where its particle is
seen.
"""

from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass, gaussian_filter
from torch import Tensor

from gtpick_model.simulator import detector, junk
from gtpick_model.simulator.field import Conditions, Fields, simulate
from gtpick_model.simulator.junk import Junk
from gtpick_model.simulator.optics import transfer
from gtpick_model.simulator.procedural import procedural
from gtpick_model.simulator.views import ViewLibrary, build_library

SHAPE = (80, 130)
SEED = (3, 1)


def seen_centre(image: Tensor) -> list[float]:
    """Where the eye puts a lone particle: centre of mass x, y of what differs from
    the background.
    """
    difference = (image - image.median()).abs().numpy()
    difference[difference < 0.3 * difference.max()] = 0
    return list(center_of_mass(difference))[::-1]


def interior(boxes: Tensor) -> bool:
    """Whether a field has one particle, well inside."""
    limit = torch.tensor([SHAPE[1], SHAPE[0]]) - 20
    return len(boxes) == 1 and bool(((boxes[0, :2] > 20) & (boxes[0, :2] < limit)).all())


def test_the_same_seed_gives_the_same_fields(library: ViewLibrary) -> None:
    first, again, other = (simulate(library, 3, SHAPE, Conditions(), seed) for seed in (SEED, SEED, (3, 2)))
    assert torch.equal(first.images, again.images)
    assert all(torch.equal(a, b) for a, b in zip(first.boxes, again.boxes, strict=True))
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images[0], first.images[1])


def test_the_global_random_state_plays_no_part(library: ViewLibrary) -> None:
    torch.manual_seed(1)
    first = simulate(library, 2, SHAPE, Conditions(), SEED)
    torch.manual_seed(2)
    assert torch.equal(first.images, simulate(library, 2, SHAPE, Conditions(), SEED).images)


def test_fields_are_complete(library: ViewLibrary) -> None:
    fields = simulate(library, 12, SHAPE, Conditions(junk=3), SEED)
    assert fields.images.shape == (12, *SHAPE)
    assert fields.images.isfinite().all()
    assert (fields.images.flatten(1).std(1) > 0).all()
    assert fields.pixel_A.shape == (12,)
    for boxes in fields.boxes:
        assert boxes.shape == (len(boxes), 3)
        assert (boxes[:, :2] >= -0.5).all()
        assert (boxes[:, 0] < SHAPE[1] - 0.5).all()
        assert (boxes[:, 1] < SHAPE[0] - 0.5).all()
        assert ((boxes[:, 2] >= 10) & (boxes[:, 2] <= 33)).all()
    assert torch.cat(fields.boxes)[:, 0].max() > SHAPE[0]


@pytest.mark.parametrize(("which", "within_px"), [("balls", 0.3), ("library", 1.25)])
def test_a_label_is_where_its_particle_is_seen(
    which: str, within_px: float, lone: Conditions, request: pytest.FixtureRequest
) -> None:
    fields = simulate(request.getfixturevalue(which), 24, SHAPE, lone, SEED)
    checked = [
        np.hypot(*(np.array(seen_centre(image)) - boxes[0, :2].numpy()))
        for image, boxes in zip(fields.images, fields.boxes, strict=True)
        if interior(boxes)
    ]
    assert len(checked) >= 5
    assert max(checked) < within_px


def test_the_pixel_size_follows_from_the_structure(balls: ViewLibrary, lone: Conditions) -> None:
    fields = simulate(balls, 2, SHAPE, lone, SEED)
    assert (fields.pixel_A * 20).tolist() == pytest.approx([float(balls.extent_A[0])] * 2)
    assert all((boxes[:, 2] == 20).all() for boxes in fields.boxes)


def test_particles_are_dark(balls: ViewLibrary, lone: Conditions) -> None:
    fields = simulate(balls, 24, SHAPE, lone, SEED)
    seen = [
        (image, *boxes[0, :2].round().int().tolist())
        for image, boxes in zip(fields.images, fields.boxes, strict=True)
        if interior(boxes)
    ]
    assert len(seen) >= 5
    for image, x, y in seen:
        assert float(image[y - 4 : y + 5, x - 4 : x + 5].mean() - image.median()) < 0


def test_no_field_is_empty_unless_asked_for(library: ViewLibrary, lone: Conditions) -> None:
    assert all(len(boxes) for boxes in simulate(library, 12, SHAPE, lone, SEED).boxes)
    nothing = simulate(library, 12, SHAPE, replace(lone, empty=1.0, snr=(0.1, 0.1)), SEED)
    assert not any(len(boxes) for boxes in nothing.boxes)
    assert nothing.images.isfinite().all()
    assert (nothing.images.flatten(1).std(1) > 0).all()


def test_dense_fields_hold_more_and_particles_keep_apart(library: ViewLibrary, lone: Conditions) -> None:
    sparse, dense = (
        simulate(library, 6, SHAPE, replace(lone, coverage=(c, c), extent_px=(12, 12)), SEED).boxes for c in (0.1, 0.5)
    )
    assert all(len(boxes) == round(0.1 * SHAPE[0] * SHAPE[1] / 144) for boxes in sparse)
    for few, many in zip(sparse, dense, strict=True):
        assert len(many) > 2 * len(few)
        assert torch.pdist(many[:, :2]).min() >= 0.6 * 12


def noise_of(library: ViewLibrary, conditions: Conditions, snr: float) -> tuple[Tensor, Fields]:
    """What is added to the noiseless images of ten fields, and these."""
    noisy = simulate(library, 10, SHAPE, replace(conditions, snr=(snr, snr)), SEED)
    clean = simulate(library, 10, SHAPE, replace(conditions, snr=(1e12, 1e12)), SEED)
    return noisy.images - clean.images, clean


def test_the_signal_to_noise_ratio_is_the_one_asked_for(
    balls: ViewLibrary, lone: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signal variance inside particles over noise variance, at a pixel of 1/100 of the diameter."""
    monkeypatch.setattr(detector, "gradient", lambda shape, slope: torch.zeros(len(slope), *shape))
    noise, clean = noise_of(balls, replace(lone, coverage=(0.3, 0.3)), snr=0.05)
    area = torch.tensor([len(boxes) * pi / 4 * 20**2 for boxes in clean.boxes])
    signal = clean.images.square().sum((1, 2)) / area
    at_this_pixel = signal / noise.flatten(1).var(1)
    assert (at_this_pixel / (100 / 20) ** 2).mean().item() == pytest.approx(0.05, rel=0.1)


def test_noise_falls_with_the_signal_to_noise_ratio(balls: ViewLibrary, lone: Conditions) -> None:
    loud, soft = (noise_of(balls, lone, snr)[0].flatten(1).var(1) for snr in (0.01, 0.04))
    torch.testing.assert_close(loud / soft, torch.full((10,), 4.0), rtol=1e-2, atol=0)


def test_nothing_is_labelled_where_junk_forbids_it(
    library: ViewLibrary, lone: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corner(rng: np.random.Generator, shape: tuple[int, int], *_: object) -> Junk:
        region = torch.zeros(shape, dtype=torch.bool)
        region[:40, :90] = True
        return Junk(torch.zeros(shape), region)

    crowded = replace(lone, coverage=(0.3, 0.3))
    monkeypatch.setattr(junk, "KINDS", ())
    free = torch.cat(simulate(library, 6, SHAPE, crowded, SEED).boxes)
    monkeypatch.setattr(junk, "KINDS", ((corner, 1e9),))
    fields = simulate(library, 6, SHAPE, replace(crowded, junk=1e-9), SEED)
    kept = torch.cat(fields.boxes)
    assert fields.forbidden.dtype == torch.bool
    assert torch.equal(fields.forbidden, corner(np.random.default_rng(), SHAPE).region.expand(6, *SHAPE))
    inside = (free[:, 0].round() < 90) & (free[:, 1].round() < 40)
    assert 0 < inside.sum() < len(free)
    assert sorted(kept.tolist()) == sorted(free[~inside].tolist())


def test_who_reaches_out_of_what_is_forbidden_is_doubtful(
    library: ViewLibrary, lone: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(rng: np.random.Generator, shape: tuple[int, int], *_: object) -> Junk:
        region = torch.zeros(shape, dtype=torch.bool)
        region[:, :70] = True
        return Junk(torch.zeros(shape), region)

    monkeypatch.setattr(junk, "KINDS", ((left, 1e9),))
    fields = simulate(library, 6, SHAPE, replace(lone, coverage=(0.3, 0.3), junk=1e-9), SEED)
    doubtful = torch.cat(fields.doubtful)
    assert len(doubtful) > 0
    assert ((doubtful[:, 0] > 69 - doubtful[:, 2] / 2 - 1) & (doubtful[:, 0] < 69.5)).all()
    assert all((boxes[:, 0] > 69.4).all() for boxes in fields.boxes)


def test_no_particle_of_a_usual_field_is_labelled_where_it_is_forbidden(library: ViewLibrary) -> None:
    fields = simulate(library, 16, SHAPE, Conditions(junk=3, coverage=(0.4, 0.9), empty=0), SEED)
    assert fields.forbidden.shape == fields.images.shape
    assert 0.02 < fields.forbidden.float().mean() < 0.9
    for boxes, forbidden in zip(fields.boxes, fields.forbidden, strict=True):
        x, y = boxes[:, :2].round().long().T
        assert not forbidden[y, x].any()
    assert sum(map(len, fields.boxes)) > 50


def test_nothing_is_forbidden_on_a_field_without_junk(library: ViewLibrary, lone: Conditions) -> None:
    assert not simulate(library, 4, SHAPE, lone, SEED).forbidden.any()


def constant_rows(image: Tensor) -> Tensor:
    """Which rows equal the rows above and below them."""
    same = (image.diff(dim=0) == 0).all(1)
    yes = torch.ones(1, dtype=torch.bool)
    return torch.cat((yes, same)) & torch.cat((same, yes))


def test_nothing_is_labelled_in_a_smeared_border(
    library: ViewLibrary, lone: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(junk, "KINDS", ())
    smeared = 0
    fields = simulate(library, 20, SHAPE, replace(lone, coverage=(0.4, 0.4), extent_px=(10, 10), junk=20), SEED)
    for image, boxes, forbidden in zip(fields.images, fields.boxes, fields.forbidden, strict=True):
        constant = constant_rows(image)[:, None] | constant_rows(image.T)[None]
        assert forbidden[constant].all()
        assert not forbidden.all()
        smeared += int(constant.any())
        x, y = boxes[:, :2].round().long().T
        assert not constant[y, x].any()
    assert smeared == 20


def test_aggregates_and_fragments_are_apart_from_particles_and_not_labelled(
    library: ViewLibrary, lone: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(junk, "KINDS", ())
    fields = simulate(library, 20, SHAPE, replace(lone, coverage=(0.2, 0.2), junk=3), SEED)
    assert sum(len(negatives) for negatives in fields.negatives) > 50
    for boxes, negatives in zip(fields.boxes, fields.negatives, strict=True):
        apart = torch.cdist(boxes[:, :2], negatives[:, :2])
        assert (apart > 0.349 * (boxes[:, None, 2] + negatives[None, :, 2])).all()


def test_the_optics_are_those_of_the_image(balls: ViewLibrary, lone: Conditions) -> None:
    """Where the contrast transfer of a field is nil its image has next to no power; that of another
    field has some.
    """
    fields = simulate(balls, 2, (256, 256), replace(lone, snr=(1e12, 1e12), defocus_A=(5e3, 3.2e4)), SEED)
    power = torch.fft.rfft2(fields.images).abs().square()
    blind = transfer(fields.optics, (256, 256)).abs() < 0.01
    own, other = ((power * where).sum((1, 2)) for where in (blind, blind.flip(0)))
    assert (own < 0.05 * other).all()


def test_views_say_which_way_each_labelled_particle_is_seen() -> None:
    library = build_library([procedural(3, 48)], 2, seed=0)
    blank = ViewLibrary(library.names, library.extent_A, library.views.clone(), library.half_views.clone())
    blank.views[:, 1], blank.half_views[:, 1] = 0, 0
    conditions = Conditions(
        extent_px=(20, 20), coverage=(0.15, 0.15), snr=(50, 50), empty=0, junk=0, filtered=0, prefiltered=0, dense=0
    )
    fields = simulate(blank, 1, (256, 256), conditions, (4,), kinds=())
    x, y = fields.boxes[0][:, :2].round().long().T
    shown = gaussian_filter(fields.images[0].numpy(), 3)[y, x]
    seen = fields.views[0].numpy() == 0
    assert seen.any() and not seen.all()
    assert shown[seen].mean() < shown[~seen].mean() - shown[~seen].std()  # particles are dark
