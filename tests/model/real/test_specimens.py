"""Folders of real micrographs: what is read, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_model.config import ModelConfig
from gtpick_model.real.looks import at_scale, plain
from gtpick_model.real.specimens import read_folders, read_specimen
from gtpick_rt.errors import UsageError

MakeFolder = Callable[..., Path]


def test_labels_lie_on_the_particles_at_every_scale(make_folder: MakeFolder, config: ModelConfig) -> None:
    """Five discs on each micrograph."""
    for micrograph in read_folders([make_folder()], config):
        for scale in (0.7, 1.0, 1.4):
            image, centres = at_scale(micrograph, scale)
            assert centres.shape == (5, 2)
            for x, y in centres.round().astype(int):
                assert image[y, x] < -2
        assert at_scale(micrograph, 1.0)[0].shape == (200, 120)


def test_plain_images_are_those_that_the_runtime_sees(make_folder: MakeFolder, config: ModelConfig) -> None:
    from gtpick_rt.preprocess import to_working_scale
    from gtpick_rt.reading import read_micrograph
    from gtpick_rt.spec import ModelSpec

    folder = make_folder()
    spec = ModelSpec(
        name="", version="", tile_px=64, margin_px=8, queries=16, diameter_px=24.0, diameter_range_px=(12, 28),
        highpass_px=config.highpass_px, clip=config.clip, merge_distance=0.5, threshold=0.5, floor=0.1,
    )  # fmt: skip
    expected = to_working_scale(read_micrograph(folder / "m0.mrc"), 96.0, spec).data
    data, _ = plain(read_folders([folder], config)[0], config)
    assert data.shape == expected.shape
    assert np.corrcoef(data.ravel(), expected.ravel())[0, 1] > 0.97  # resampled twice, on the way


def test_bright_particles_are_made_dark(make_folder: MakeFolder, config: ModelConfig) -> None:
    dark, bright = read_folders([make_folder("a"), make_folder("b", contrast="bright")], config)[::2]
    np.testing.assert_array_equal(dark.pixels, -bright.pixels)


def test_labels_of_one_particle_count_once(make_folder: MakeFolder, config: ModelConfig) -> None:
    folder = make_folder()
    (folder / "m1.csv").write_text("x,y\n60,60\n66,60\n180,60\n")
    assert [len(each.centres) for each in read_folders([folder], config)] == [5, 2]


def test_folders_without_labels_say_what_is_known(make_folder: MakeFolder, config: ModelConfig) -> None:
    none = make_folder("none", labels=False, particles="none")
    unknown = make_folder("unknown", labels=False, particles="unlabelled")
    read = read_folders([none, unknown], config)
    assert [(each.folder, each.name, each.particles, len(each.centres)) for each in read] == [
        ("none", "m0.mrc", "none", 0),
        ("none", "m1.mrc", "none", 0),
        ("unknown", "m0.mrc", "unlabelled", 0),
        ("unknown", "m1.mrc", "unlabelled", 0),
    ]


def test_missing_labels_are_named(make_folder: MakeFolder, config: ModelConfig) -> None:
    folder = make_folder()
    (folder / "m1.csv").unlink()
    with pytest.raises(UsageError, match=r'no labels for m1\.mrc; add a file .*"particles": "none" or "unlabelled"'):
        read_folders([folder], config)


def test_folders_of_one_name_are_refused(make_folder: MakeFolder, config: ModelConfig) -> None:
    folder = make_folder()
    with pytest.raises(UsageError, match="several folders of real micrographs are called discs; rename one"):
        read_folders([folder, folder], config)


def test_folders_that_teach_nothing_are_refused(make_folder: MakeFolder, config: ModelConfig) -> None:
    with pytest.raises(UsageError, match="nothing can be learned from unknown: add a folder with labels"):
        read_folders([make_folder("unknown", labels=False, particles="unlabelled")], config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ("{}", "diameter_A"),
        ('{"diameter_A": -1}', "diameter_A must be a positive number of Å, got -1"),
        ('{"diameter_A": "1"}', "specimen.json"),
        ('{"diameter_A": 1, "diametre": 2}', "diametre"),
        ('{"diameter_A": 1, "particles": "some"}', "one of labelled, unlabelled, none, got 'some'"),
        ('{"diameter_A": 1, "contrast": "grey"}', "dark or bright, got 'grey'"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "specimen.json").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_specimen(tmp_path)
    assert "write it like this" in str(caught.value)


def test_a_missing_description_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="describe the particles of this folder there"):
        read_specimen(tmp_path)


def test_a_description_needs_no_more_than_a_diameter(tmp_path: Path) -> None:
    (tmp_path / "specimen.json").write_text(json.dumps({"diameter_A": 191}))
    specimen = read_specimen(tmp_path)
    assert (specimen.diameter_A, specimen.particles, specimen.contrast) == (191, "labelled", "dark")
