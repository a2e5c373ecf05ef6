"""Training tiles: normalised, with the particles on them, and of structures that evaluation never
sees.
"""

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from gtpick_model import tiles
from gtpick_model.config import ModelConfig
from gtpick_model.simulator.field import Conditions, simulate
from gtpick_model.simulator.structures import held_out
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Backgrounds, make_tiles, split_structures, training_names


def test_evaluation_structures_are_never_trained_on(split: tuple[ViewLibrary, ViewLibrary]) -> None:
    train, test = (set(library.names) for library in split)
    assert not train & test
    assert len(train | test) == 12
    assert test
    assert all(held_out(name) for name in test)
    assert not any(held_out(name) for name in train)


def test_structures_of_a_folder_are_trained_on_beside_the_procedural_ones(tmp_path: Path) -> None:
    density = np.pad(np.ones((8, 8, 8), np.float32), 6)
    for name in ("1ahw_map.mrc", "4v4r.mrc"):
        with mrcfile.new(tmp_path / name, density) as mrc:
            mrc.voxel_size = 5.0
    train, test = split_structures(tmp_path, 12, 16)
    names = [s.name for s in train + test]
    assert len(set(names)) == len(names) == 13
    assert "4v4r" in {s.name for s in train}
    assert {s.volume.shape for s in train + test} == {(16, 16, 16)}
    assert training_names(tmp_path, 12) == [s.name for s in train]
    procedural = split_structures(None, 12, 16)
    assert [s.name for part in procedural for s in part] == [n for n in names if n.startswith("procedural")]


def test_what_a_folder_holds_out_is_left_to_be_reported_on(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "1ahw_map.mrc", np.pad(np.ones((8, 8, 8), np.float32), 6)) as mrc:
        mrc.voxel_size = 5.0
    assert held_out("1ahw")
    assert "1ahw" not in {s.name for part in split_structures(tmp_path, 12, 16) for s in part}
    assert "1ahw" not in training_names(tmp_path, 12)


def test_tiles_are_normalised(library: ViewLibrary, config: ModelConfig) -> None:
    images = make_tiles(library, 8, 96, config, Conditions(), (0,)).images
    assert images.shape == (8, 1, 96, 96)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert images.abs().max() <= config.clip
    assert images.flatten(1).median(1).values.abs().max() < 0.5
    assert ((images.flatten(1).std(1) > 0.4) & (images.flatten(1).std(1) < 3)).all()


def test_boxes_lie_on_their_tile(library: ViewLibrary, config: ModelConfig) -> None:
    boxes = make_tiles(library, 12, 64, config, Conditions(coverage=(0.5, 0.9), empty=0), (0,)).boxes
    assert len(boxes) == 12
    assert all(box.shape == (len(box), 3) for box in boxes)
    every = torch.cat(boxes)
    assert len(every) > 60
    assert every[:, :2].min() >= -0.5
    assert every[:, :2].max() < 63.5
    for axis in (0, 1):  # up to the rim on either side
        assert every[:, axis].min() < 6
        assert every[:, axis].max() > 57


def test_boxes_are_where_particles_are_seen(balls: ViewLibrary, config: ModelConfig, lone: Conditions) -> None:
    """The rim that is cut off moves images and boxes alike."""
    tiles = make_tiles(balls, 40, 96, replace(config, highpass_px=151, clip=1e9), replace(lone, snr=(100, 100)), (0,))
    checked = 0
    for image, boxes in zip(tiles.images[:, 0].numpy(), tiles.boxes, strict=True):
        if len(boxes) == 1 and ((boxes[0, :2] > 16) & (boxes[0, :2] < 80)).all():
            dark = np.where(image < 0.4 * image.min(), -image, 0)
            assert center_of_mass(dark)[::-1] == pytest.approx(boxes[0, :2].tolist(), abs=0.6)
            checked += 1
    assert checked >= 5


def test_the_same_seed_gives_the_same_tiles(library: ViewLibrary, config: ModelConfig) -> None:
    first, again, other = (make_tiles(library, 2, 64, config, Conditions(), seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_particles_that_nobody_can_be_sure_of_are_no_background(
    split: tuple[ViewLibrary, ViewLibrary], config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = simulate(split[0], 1, (192, 192), Conditions(junk=0, empty=0, coverage=(0.5, 0.5)), (1,))
    doubtful = torch.tensor([[92.0, 112.0, 20.0]])
    monkeypatch.setattr(tiles, "simulate", lambda *_, **__: fields._replace(doubtful=[doubtful]))
    made = make_tiles(split[0], 1, 128, config, Conditions(), (1,))
    assert made.background is not None
    zeros = (made.background[0] == 0).nonzero().float()
    assert zeros.mean(0).tolist() == pytest.approx([80, 60])  # row, column, without the rim
    assert len(zeros) == pytest.approx(np.pi * 10**2, rel=0.05)


def test_what_lies_on_a_real_background_already_counts_as_it_does_there(
    split: tuple[ViewLibrary, ViewLibrary], config: ModelConfig
) -> None:
    sure = torch.rand(1, 192, 192)
    made = make_tiles(
        split[0], 2, 128, config, Conditions(junk=0, empty=1), (1,), None, Backgrounds(torch.randn(1, 192, 192), sure)
    )
    assert made.background is not None
    assert torch.equal(made.background[0], sure[0, 32:-32, 32:-32])
    assert (made.background[1] == 1).all()


def test_tiles_made_smaller_show_the_same_particles(
    split: tuple[ViewLibrary, ViewLibrary], config: ModelConfig
) -> None:
    conditions = Conditions(extent_px=(24, 24), coverage=(0.1, 0.1), snr=(1e3, 1e3), junk=0, empty=0, filtered=0)
    whole, smaller = (make_tiles(split[0], 2, 128, config, conditions, (3,), zoom=zoom) for zoom in (1.0, 0.75))
    assert smaller.images.shape == (2, 1, 96, 96)
    assert smaller.background is not None
    assert smaller.background.shape == (2, 96, 96)
    for before, after in zip(whole.boxes, smaller.boxes, strict=True):
        torch.testing.assert_close(after, (before + torch.tensor([0.5, 0.5, 0])) * 0.75 - torch.tensor([0.5, 0.5, 0]))
    reduced = torch.nn.functional.interpolate(whole.images, size=(96, 96), mode="area")
    for one, other in zip(reduced.flatten(1), smaller.images.flatten(1), strict=True):
        assert torch.corrcoef(torch.stack((one, other)))[0, 1] > 0.9
