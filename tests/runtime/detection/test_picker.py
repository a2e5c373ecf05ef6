"""What is picked does not depend on how the micrograph lies, is cut, or is tiled."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.backends.base import MOST_AT_ONCE, Tiles
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Micrograph, Picks

HEIGHT, WIDTH = 1000, 1300
MakeDots = Callable[..., Micrograph]


def centres(n: int = 60) -> FloatArray:
    """Places on a jittered lattice of the image, all apart, unlike in x and y, some close to the
    border.
    """
    x, y = np.meshgrid(np.linspace(40, WIDTH - 40, 10), np.linspace(40, HEIGHT - 40, 6))
    jitter = np.random.default_rng(2).integers(-14, 15, (n, 2))
    return (np.stack([x.ravel(), y.ravel()], axis=1).round() + jitter).astype(np.float32)


def ordered(xy: FloatArray) -> FloatArray:
    return xy[np.lexsort(np.round(xy / 40).T)]


def assert_same_places(found: FloatArray, expected: FloatArray, tolerance_px: float = 2.1) -> None:
    """Each list has exactly one point within the tolerance (a working pixel is 2 px) of each of the
    other's.
    """
    assert len(found) == len(expected)
    distance = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert (np.sort(distance.argmin(axis=1)) == np.arange(len(expected))).all()
    assert distance.min(axis=1).max() <= tolerance_px


def turned(micrograph: Micrograph, data: FloatArray) -> Micrograph:
    return Micrograph(np.ascontiguousarray(data), micrograph.pixel_size_A, micrograph.path)


def test_every_dot_is_picked_once_and_where_it_is(dot_picker: Picker, dots: MakeDots) -> None:
    picks = dot_picker.pick(dots(centres(), (HEIGHT, WIDTH)))
    assert_same_places(picks.xy_px, centres())
    np.testing.assert_allclose(picks.diameter_px, 48, rtol=1e-5)
    np.testing.assert_allclose(picks.score, 0.9, rtol=1e-5)


def test_a_quarter_turn_turns_the_picks(dot_picker: Picker, dots: MakeDots) -> None:
    micrograph = dots(centres(), (HEIGHT, WIDTH))
    x, y = dot_picker.pick(micrograph).xy_px.T
    found = dot_picker.pick(turned(micrograph, np.rot90(micrograph.data))).xy_px
    assert_same_places(found, np.stack([y, WIDTH - 1 - x], axis=1), tolerance_px=0.01)


def test_a_flip_flips_the_picks(dot_picker: Picker, dots: MakeDots) -> None:
    micrograph = dots(centres(), (HEIGHT, WIDTH))
    x, y = dot_picker.pick(micrograph).xy_px.T
    left_right = dot_picker.pick(turned(micrograph, np.fliplr(micrograph.data))).xy_px
    up_down = dot_picker.pick(turned(micrograph, np.flipud(micrograph.data))).xy_px
    assert_same_places(left_right, np.stack([WIDTH - 1 - x, y], axis=1), tolerance_px=0.01)
    assert_same_places(up_down, np.stack([x, HEIGHT - 1 - y], axis=1), tolerance_px=0.01)


def test_a_crop_has_the_picks_of_the_whole_that_it_holds(dot_picker: Picker, dots: MakeDots) -> None:
    micrograph = dots(centres(), (HEIGHT, WIDTH))
    corner, size = np.array([220, 140]), np.array([800, 500])
    (x0, y0), (w, h) = corner, size
    whole = dot_picker.pick(micrograph).xy_px - corner
    found = dot_picker.pick(turned(micrograph, micrograph.data[y0 : y0 + h, x0 : x0 + w])).xy_px

    def well_inside(xy: FloatArray) -> FloatArray:
        return xy[((xy > 27) & (xy < size - 27)).all(axis=1)].astype(np.float32)

    assert_same_places(well_inside(found), well_inside(whole))


@pytest.mark.parametrize("offset", [(0, 64), (1, 0), (77, 130), (191, 191)])
def test_the_tile_grid_does_not_show(offset: tuple[int, int], dot_picker: Picker, dots: MakeDots) -> None:
    image = dot_picker.prepare(dots(centres(), (HEIGHT, WIDTH)))
    expected = dot_picker.assemble(image, dot_picker.infer(image))
    found = dot_picker.assemble(image, dot_picker.infer(image, grid_offset=offset))
    np.testing.assert_array_equal(ordered(found.xy_px), ordered(expected.xy_px))


def test_a_micrograph_smaller_than_a_tile_is_picked(dot_picker: Picker, dots: MakeDots) -> None:
    place = np.array([[110, 60]], np.float32)
    assert_same_places(dot_picker.pick(dots(place, (130, 170))).xy_px, place)


def test_scale_follows_the_pixel_size(dot_picker: Picker, dots: MakeDots) -> None:
    micrograph = dots(centres(), (HEIGHT, WIDTH))
    fine = Micrograph(micrograph.data, 0.5, micrograph.path)
    half = Picker(dot_picker.backend, dot_picker.spec, diameter_A=24)
    np.testing.assert_array_equal(half.pick(fine).xy_px, dot_picker.pick(micrograph).xy_px)


def test_a_blank_micrograph_is_not_shown_to_the_model(spec: ModelSpec, dots: MakeDots) -> None:
    def refuse(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        raise AssertionError("a blank image has no tiles to infer")

    flat = Micrograph(np.full((500, 400), 7, np.float32), 1.0, dots(centres(), (HEIGHT, WIDTH)).path)
    assert len(Picker(ScriptedBackend(refuse), spec, 48).pick(flat)) == 0


def test_particles_that_reach_over_the_border_are_dropped(spec: ModelSpec, dots: MakeDots) -> None:
    """The particle is 24 working pixels across, the tile 256, and the image only 100
    x 80 of them.
    """
    places = [
        [11, 20, 24],
        [12, 60, 24],
        [87, 20, 24],
        [88, 60, 24],
        [30, 11, 24],
        [50, 67, 24],
        [70, 68, 24],
        [120, 40, 24],
    ]

    def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores = np.zeros((1, spec.queries), np.float32)
        boxes = np.zeros((1, spec.queries, 3), np.float32)
        scores[0, : len(places)], boxes[0, : len(places)] = 0.9, places
        return scores, boxes

    picks: Picks = Picker(ScriptedBackend(script), spec, 48).pick(dots(np.zeros((0, 2), np.float32), (160, 200)))
    np.testing.assert_array_equal(
        ordered(picks.xy_px), ordered(np.array([[174.5, 40.5], [24.5, 120.5], [100.5, 134.5]]))
    )


@pytest.mark.parametrize("diameter_A", [0, -3, np.nan, np.inf])
def test_a_diameter_must_be_positive(diameter_A: float, dot_picker: Picker) -> None:
    with pytest.raises(UsageError, match="diameter must be a positive"):
        Picker(dot_picker.backend, dot_picker.spec, diameter_A)


@pytest.mark.parametrize("n", [1, 8, 64, 65, 200])
def test_batches_are_few_and_of_about_one_size(n: int) -> None:
    sizes: list[int] = []

    def script(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        sizes.append(len(tiles))
        return tiles[:, 0, 0, :1], np.zeros((len(tiles), 1, 3), np.float32)

    backend = ScriptedBackend(script)
    numbers = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)
    scores, _ = backend.collect(backend.submit(Tiles.of(numbers)))
    np.testing.assert_array_equal(scores[:, 0], np.arange(n))
    assert len(sizes) == math.ceil(n / MOST_AT_ONCE)
    assert max(sizes) - min(sizes) <= 1


def test_images_that_are_submitted_before_others_are_collected_are_picked_as_alone(
    dot_picker: Picker, dots: MakeDots
) -> None:
    images = [dot_picker.prepare(dots(centres(n)[:n], (HEIGHT, WIDTH), seed=n)) for n in (60, 60, 60)]
    blank = dot_picker.prepare(Micrograph(np.ones((HEIGHT, WIDTH), np.float32), 1.0, Path("blank.mrc")))
    submitted = [dot_picker.submit(images[:2]), dot_picker.submit([blank]), dot_picker.submit(images[2:])]
    raws = [raw for each in submitted for raw in dot_picker.collect(each)]
    assert [len(raw.tiles) for raw in raws[2:3]] == [0]
    for image, raw in zip(images, raws[:2] + raws[3:], strict=True):
        alone = dot_picker.infer(image)
        np.testing.assert_array_equal(raw.scores, alone.scores)
        np.testing.assert_array_equal(raw.boxes, alone.boxes)
