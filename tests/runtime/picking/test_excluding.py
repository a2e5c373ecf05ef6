"""Where a run does not pick is a setting of its folder, whoever picks into it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gtpick_rt
from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.cluster.specs import LocalWorkers
from gtpick_rt.errors import UsageError
from gtpick_rt.formats.star import read_record
from gtpick_rt.output.commit import load_detections
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.rethresholding import rethreshold
from gtpick_rt.types import FloatArray, Micrograph

DOTS = np.array([[71, 39], [151, 87]], np.float32)
"""One of them in the left half; both nearer than 72 px to the border."""


@pytest.fixture
def folder(tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """Three micrographs, each with two dots."""
    for name in "abc":
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(DOTS, (128, 192)).data)
    return tmp_path / "in"


@pytest.fixture
def pick(folder: Path, tiny_model: Path) -> Callable[..., Any]:
    def run(inputs: Path = folder, **options: Any) -> Any:
        given = {"diameter_A": 24, "model": str(tiny_model), "threshold": 0.9, **options}
        return gtpick_rt.pick(inputs, folder.parent / "out", **given)

    return run


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """All but the left half."""
    white = np.full((64, 96), 255, np.uint8)
    white[:, :48] = 0
    Image.fromarray(white).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def picks(out: Path) -> dict[str, int]:
    return {each["stem"]: each["picks"] for each in json.loads((out / "summary.json").read_text())["micrographs"]}


@pytest.mark.parametrize(("option", "value", "left"), [("margin", "60px", 0), ("mask", "mask", 1)])
def test_a_run_goes_on_as_it_began(
    option: str, value: str, left: int, folder: Path, mask: Path, pick: Callable[..., Any], tmp_path: Path
) -> None:
    given = {option: mask if value == "mask" else value}
    assert pick(folder / "a.mrc", **given).totals.picks == left
    again = pick(folder)  # says nothing of it
    assert picks(tmp_path / "out") == dict.fromkeys("abc", left)
    assert again.parameters[option] == ("60 px" if option == "margin" else str(mask))
    with pytest.raises(UsageError, match=r"picks made otherwise \(.*margin"):
        pick(folder, margin="50")
    assert pick(folder, force=True).totals.picks == 6


def test_each_micrograph_has_the_mask_of_its_name(folder: Path, mask: Path, pick: Callable[..., Any]) -> None:
    (folder.parent / "masks").mkdir()
    mask.rename(folder.parent / "masks" / "b.png")
    (folder.parent / "masks" / "c.png").write_bytes(b"nothing")
    summary = pick(mask=folder.parent / "masks")
    assert picks(folder.parent / "out") == {"a": 2, "b": 1}
    written = json.loads((folder.parent / "out" / "summary.json").read_text())
    assert "has no mask for it: picked everywhere" in written["micrographs"][0]["warnings"][-1]
    assert summary.totals.failed == 1
    assert "c.png" in written["failed"][0]["message"]


def test_a_mask_that_is_changed_or_comes_later_has_its_micrograph_picked_again(
    folder: Path, mask: Path, pick: Callable[..., Any]
) -> None:
    masks = folder.parent / "masks"
    masks.mkdir()
    shutil.copy(mask, masks / "b.png")
    assert pick(mask=masks).picked == 3
    assert pick().picked == 0
    Image.fromarray(np.full((64, 96), 255, np.uint8)).save(masks / "b.png")
    os.utime(masks / "b.png", ns=(0, 0))
    shutil.copy(mask, masks / "c.png")
    assert pick(mask=masks).picked == 2
    assert picks(folder.parent / "out") == {"a": 2, "b": 2, "c": 1}
    assert pick(mask=masks).picked == 0


def test_a_skipped_micrograph_has_a_star_file_and_a_record_that_says_so(folder: Path, pick: Callable[..., Any]) -> None:
    pick(folder / "a.mrc", skip_flagged=["empty", "crowded", "low"], margin=0)
    out = folder.parent / "out"
    (flag,) = json.loads((out / "summary.json").read_text())["micrographs"][0]["flags"]
    record = json.loads(read_record(out / "a_autopick.star"))["record"]
    assert (record["picks"], record["detections"], record["skipped"]) == (0, 0, [flag])
    assert record["left_out"] >= 2
    assert "a_autopick.star" in (out / "autopick.star").read_text()


def test_another_threshold_brings_nothing_back(folder: Path, mask: Path, pick: Callable[..., Any]) -> None:
    pick(mask=mask)
    with OutputFolder(folder.parent / "out") as output:
        assert output.previous is not None
        rethreshold(output, 0.1)
    for stem in "abc":
        assert (load_detections(folder.parent / "out", PurePosixPath(stem)).xy_px[:, 0] > 95).all()
    assert pick(threshold=None).parameters["mask"] == str(mask)


def test_shards_agree_on_it(folder: Path, mask: Path, pick: Callable[..., Any]) -> None:
    first, second = ("1/2", "2/2") if Shard.parse("1/2").holds("a") else ("2/2", "1/2")
    pick(mask=mask, shard=first)
    pick(shard=second)
    assert picks(folder.parent / "out") == {"a": 1, "b": 1, "c": 1}


def test_workers_heed_it(folder: Path, mask: Path, pick: Callable[..., Any]) -> None:
    assert pick(mask=mask, cluster=LocalWorkers(1)).totals.picks == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "wide"}, "--margin wide: neither"),
        ({"skip_flagged": ["dirt"]}, "--skip-flagged dirt: is no flag"),
        ({"mask": "none.png"}, r"--mask .*none\.png: no such file or folder$"),
        ({"mask": "mask.jpg"}, r"--mask mask\.jpg: neither a mask"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    options: dict[str, Any], message: str, folder: Path, pick: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match=message):
        pick(**options)
    assert not (folder.parent / "out").exists()
