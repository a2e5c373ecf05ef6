"""No picture is stale: each shows what the present model gives."""

import json
import os
from pathlib import Path

import pytest

import gtpick_rt
from benchmarks.pictures import take

TAKEN = json.loads(take.SIDECAR.read_text())
OF_RELION = {"class_averages.png"}
"""By benchmarks/interoperability/relion_classes.py, whose result names the model."""


def test_all_pictures_of_the_documents_are_taken_by_the_command() -> None:
    pictures = {path.name for suffix in ("*.png", "*.jpg") for path in take.DOCS.glob(suffix)}
    assert pictures - OF_RELION == TAKEN.keys()


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


@pytest.mark.skipif("DATA" not in os.environ, reason="DATA names no folder of public micrographs")
def test_the_ribosomes_have_the_picks_that_their_picture_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take, "save", lambda overlay, name: None)
    assert take.take_ribosomes(Path(os.environ["DATA"])).items() <= TAKEN["ribosomes.jpg"].items()
