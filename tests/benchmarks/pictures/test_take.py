"""No picture is stale: each shows what the present model gives, or the page tells which model it
is of.
"""

import json
import os
from pathlib import Path

import pytest

import gtpick_rt
from benchmarks.interoperability import flip_y, relion_classes
from benchmarks.pictures import take
from benchmarks.speed import monitor_screenshots

TAKEN = json.loads(take.SIDECAR.read_text())
DATA = Path(os.environ.get("DATA", take.ROOT.parent / "shared" / "data"))
OF_RELION = relion_classes.PICTURE.name
"""What relion_classes.py writes beside its result, which names the model."""


def test_all_pictures_of_the_documents_are_taken_by_the_command() -> None:
    pictures = {path.name for suffix in ("*.png", "*.jpg") for path in take.DOCS.glob(suffix)}
    assert pictures == TAKEN.keys()


@pytest.mark.parametrize("name", TAKEN)
def test_a_picture_is_of_the_model_of_today(name: str) -> None:
    assert TAKEN[name]["model_sha256"] == take.model_sha256(name), "take the pictures anew: make pictures DATA=DIR"


def test_the_sample_has_the_picks_that_its_picture_shows(tmp_path: Path) -> None:
    """Picked with the other micrograph of the sample, as `make pick` does."""
    shown = TAKEN["sample.jpg"]
    gtpick_rt.pick(take.ROOT / take.SAMPLE, tmp_path, diameter_A=shown["diameter_A"], backend="cpu")
    records = json.loads((tmp_path / "summary.json").read_text())["micrographs"]
    (picks,) = (each["picks"] for each in records if each["stem"] == take.SAMPLE_FIRST)
    assert picks == shown["picks"], "take the pictures anew: make pictures DATA=DIR"


def test_the_watched_micrographs_have_the_picks_that_their_pictures_show(tmp_path: Path) -> None:
    """Watched, as for the pictures: both find the threshold on the first files by name, which lie
    there before they begin; a batch would find another, on files from all over the folder.
    """
    shown = [TAKEN[name] for name in monitor_screenshots.PICTURES]
    folder, diameter_A = tmp_path / "micrographs", monitor_screenshots.DIAMETER_A
    monitor_screenshots.simulate(folder)
    summary = gtpick_rt.pick(
        folder, tmp_path / "picks", diameter_A=diameter_A, backend="cpu", watch=True, settle_s=0.3, stop_after_idle_s=1
    )
    assert {each["picks"] for each in shown} == {summary.totals.picks}, "take the pictures anew: make pictures DATA=DIR"
    assert summary.totals.failed == 1


def test_the_balls_have_the_picks_that_their_picture_shows() -> None:
    found, _ = flip_y.pick(flip_y.simulate())
    assert len(found) == TAKEN["flip_y.png"]["picks"], "take the pictures anew: make pictures DATA=DIR"


def test_the_page_tells_the_model_and_the_picks_of_the_class_averages() -> None:
    """Those of the result that was written with the picture."""
    result = json.loads((take.ROOT / "benchmarks/interoperability/results/relion_classes.json").read_text())
    model = result["model"]
    told = " ".join((take.DOCS / "relion.md").read_text().split(f"]({OF_RELION})")[1].split())
    assert f"{result['picked']} picks of version {model['version']} of `{model['name']}`" in told


@pytest.mark.skipif(not (DATA / "empiar10028").is_dir(), reason=f"no empiar10028 in {DATA}; DATA names another folder")
def test_the_ribosomes_have_the_picks_that_their_picture_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take, "save", lambda overlay, name: None)
    assert take.take_ribosomes(DATA).items() <= TAKEN["ribosomes.jpg"].items()
