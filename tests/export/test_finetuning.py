"""Fine-tuning from files: what is held out, what counts as background, and a model that `pick`
takes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from gtpick_export.finetuning import (
    Labelled,
    Result,
    advise,
    find,
    find_micrographs,
    load,
    to_learn,
    tuned_spec,
)
from gtpick_model.labelled import AT_MOST, share_with_label
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.formats.star import autopick_star, picks_to_star
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray, Picks

PIXEL_A, DIAMETER_A = 2.0, 96.0
"""48 px of the micrograph are 24 working px."""


def picks(xy: list[tuple[float, float]], scores: list[float] | None = None, diameter_px: float = 20.0) -> Picks:
    n = len(xy)
    score = np.ones(n) if scores is None else np.array(scores)
    return Picks(np.array(xy, np.float32).reshape(n, 2), np.full(n, diameter_px, np.float32), score.astype(np.float32))


def nothing(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.zeros((len(tiles), 4), np.float32), np.ones((len(tiles), 4, 3), np.float32)


@pytest.fixture
def spec(spec: ModelSpec) -> ModelSpec:
    return replace(spec, tile_px=64, margin_px=16, queries=4, provenance={"steps": "9"})


@pytest.fixture
def picker(spec: ModelSpec) -> Picker:
    return Picker(ScriptedBackend(nothing), spec, DIAMETER_A)


Write = Callable[[str, list[tuple[float, float]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a micrograph of 240 x 320 px and its labels."""

    def run(name: str, xy: list[tuple[float, float]]) -> Path:
        path = tmp_path / f"{name}.mrc"
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(np.random.default_rng(len(name)).normal(size=(240, 320)).astype(np.float32))
            mrc.voxel_size = PIXEL_A
        (tmp_path / "labels").mkdir(exist_ok=True)
        rows = "".join(f"{x},{y}\n" for x, y in xy)
        (tmp_path / "labels" / f"{name}.csv").write_text("x,y\n" + rows)
        return path

    return run


def read(paths: list[Path], labels: Path, picker: Picker) -> tuple[list[Labelled], list[Labelled]]:
    return load(find_micrographs([str(path) for path in paths], None), labels, picker)


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (8, 2), (10, 2)])
def test_the_last_fifth_is_held_out(count: int, held_out: int, write: Write, picker: Picker) -> None:
    paths = [write(f"m{i}", [(100, 40 + i)]) for i in range(count)]
    known, judged = read(paths, paths[0].parent / "labels", picker)
    names = [path.name for path in paths]
    assert [each.name for each in known] == names[:-held_out]
    assert [each.name for each in judged] == names[-held_out:]


def test_labels_are_in_working_pixels(write: Write, picker: Picker) -> None:
    paths = [write("a", [(100, 40)]), write("b", [(10, 200)])]
    known, _ = read(paths, paths[0].parent / "labels", picker)
    assert known[0].image.data.shape == (120, 160)
    np.testing.assert_allclose(known[0].labels.xy_px, [[49.75, 19.75]])


def test_of_one_micrograph_the_last_quarter_is_held_out_with_the_labels_that_lie_whole_on_it(
    write: Write, picker: Picker
) -> None:
    """The cut is at row 180; particles reach 24 px."""
    path = write("a", [(50, 155), (60, 157), (70, 203), (80, 204)])
    (known,), (judged,) = read([path], path.parent / "labels" / "a.csv", picker)
    assert known.image.shape == (180, 320)
    assert judged.image.shape == (60, 320)
    np.testing.assert_allclose(known.labels.xy_px, [[24.75, 77.25]])
    np.testing.assert_allclose(judged.labels.xy_px, [[39.75, 11.75]])


def test_labels_may_be_the_list_of_an_output_folder(write: Write, picker: Picker) -> None:
    paths = [write(name, []) for name in "ab"]
    folder = paths[0].parent
    for count in (1, 2):
        stars = [folder / f"{path.stem}_autopick.star" for path in paths[:count]]
        for star in stars:
            picks = Picks(np.array([[50, 50], [50, 206]], np.float32), np.ones(2, np.float32), np.ones(2, np.float32))
            star.write_text(picks_to_star(picks))
        rows = [(path.name, star.name) for path, star in zip(paths[:count], stars, strict=True)]
        (folder / "autopick.star").write_text("".join(autopick_star(rows)))
        known, judged = read(paths[:count], folder / "autopick.star", picker)
        assert sum(len(each.labels) for each in (*known, *judged)) == 2 * count


def test_a_micrograph_without_a_label_file_is_refused_by_name(write: Write, picker: Picker) -> None:
    paths = [write("a", [(50, 50)]), write("b", [(50, 50)])]
    (paths[0].parent / "labels" / "b.csv").unlink()
    with pytest.raises(UsageError, match=r"labels: no labels for b\.mrc; give a file"):
        read(paths, paths[0].parent / "labels", picker)


@pytest.mark.parametrize(
    ("labelled", "message"), [(0, r"no labels to judge by in b\.mrc"), (1, r"learn from in a\.mrc")]
)
def test_either_part_needs_labels(labelled: int, message: str, write: Write, picker: Picker) -> None:
    paths = [write(name, [(50, 50)] if i == labelled else []) for i, name in enumerate("ab")]
    with pytest.raises(UsageError, match=message):
        read(paths, paths[0].parent / "labels", picker)


def test_detections_come_in_working_pixels(write: Write, spec: ModelSpec) -> None:
    """The scripted network finds one particle in the middle of the only tile."""

    def one(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, boxes = nothing(tiles)
        scores[:, 0], boxes[:, 0] = 0.9, (31, 28, 19)
        return scores, boxes

    wide = replace(spec, tile_px=320)
    picker = Picker(ScriptedBackend(one), wide, DIAMETER_A)
    paths = [write("a", [(63, 57)]), write("b", [(63, 57)])]
    known, _ = read(paths, paths[0].parent / "labels", picker)
    result = find(picker, known)
    found, labels = result.pairs[0]
    np.testing.assert_allclose(found.xy_px, [[31, 28]], atol=1e-3)
    np.testing.assert_allclose(found.diameter_px, [19], rtol=1e-5)
    np.testing.assert_allclose(labels.xy_px, [[31.25, 28.25]], atol=1e-3)
    assert result.radius_px == 8
    assert result.at(0.5).matches == 1


def grid(n: int) -> NDArray[np.float32]:
    return np.array([(100 * i, 0) for i in range(n)], np.float32)


def test_a_kind_of_file_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match=r"a\.png: not a kind of file that is read; convert it to one of \.mrc"):
        find_micrographs([str(tmp_path / "a.png")], None)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_the_labelled_share_is_found_where_scores_are_probabilities(share: float) -> None:
    rng = np.random.default_rng(3)
    score = rng.uniform(0.05, 1, 4000).astype(np.float32)
    particle = rng.random(4000) < score
    labelled = particle & (rng.random(4000) < share)
    size = np.full(4000, 20, np.float32)
    found = Picks(grid(4000), size, score)
    assert share_with_label(Result([(found, found[labelled])], 8.0).curve) == pytest.approx(
        min(share, AT_MOST), abs=0.04
    )


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(0.80, 0.82, "better: pick"), (0.80, 0.805, "no better on"), (0.80, 0.70, "worse on")],
)
def test_the_closing_word_says_whether_it_was_worth_it(before: float, after: float, words: str) -> None:
    advice = advise(before, after, Path("mine.onnx"))
    assert advice.startswith(words)
    assert "--model mine.onnx" in advice


@pytest.fixture
def learn(picker: Picker, write: Write, spec: ModelSpec) -> Callable[[Picks, list[tuple[float, float]], float], Any]:
    """A function that lays down what is learned from one micrograph with these detections and
    labels.
    """

    def run(found: Picks, labels: list[tuple[float, float]], share: float) -> Any:
        paths = [write("a", [(10, 10)]), write("b", [(10, 10)])]
        known, _ = read(paths, paths[0].parent / "labels", picker)
        result = Result([(found, picks(labels, diameter_px=24))], 8.0)
        return to_learn(known, result, spec, share)[0]

    return run


def test_of_partial_labels_what_looks_like_a_particle_counts_little_as_background(learn: Any) -> None:
    """Bayes' rule by hand: of 100 such places 80 are particles, 40 of them labelled; of the 60
    others 20 are none.
    """
    image = learn(picks([(40, 40), (90, 60), (52, 40)], [0.9, 0.8, 0.7]), [(40, 41)], 0.5)
    assert image.background[60, 90] == pytest.approx(20 / 60)
    assert image.background[60, 101] == pytest.approx(20 / 60)
    assert image.background[60, 104] == 1
    assert image.background[40, 30] == 1, "a labelled particle is known"
    assert image.background[5, 90] == 0, "nobody labels at the border"


def test_of_complete_labels_all_that_has_none_is_background(learn: Any) -> None:
    image = learn(picks([(40, 40), (90, 60)], [0.9, 1.0]), [(40, 41)], 1.0)
    assert (image.background[12:-12, 12:-12] == 1).all()


def test_a_label_gets_the_size_that_the_starting_network_sees(learn: Any) -> None:
    found = picks([(40, 40), (90, 60), (20, 20)], [0.9, 0.8, 0.1], diameter_px=21)
    np.testing.assert_allclose(learn(found, [(40, 41)], 1.0).boxes, [[40, 41, 21]])
    np.testing.assert_allclose(learn(picks([]), [(40, 41)], 1.0).boxes, [[40, 41, 24]])


def test_the_new_spec_tells_what_was_learned_last_and_what_before(spec: ModelSpec) -> None:
    tuned = tuned_spec(spec, "mine", {"labels": "7", "steps": "400"})
    assert (tuned.name, tuned.threshold) == ("mine", spec.threshold)
    assert tuned.provenance == {"labels": "7", "steps": "400", "base_steps": "9"}
