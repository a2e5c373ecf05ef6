"""Classes of real particles are made as those of map_resolution.py, and told session by session."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.labelled_sets import RealSet
from benchmarks.interoperability import real_classes
from benchmarks.interoperability.real_classes import Sorted, steps_of
from benchmarks.interoperability.resolution import relion
from benchmarks.interoperability.resolution.relion import CLASSES, Classes, Steps
from gtpick_model.real.specimens import Specimen
from gtpick_rt.types import Micrograph

SORTED = Sorted(
    np.zeros((CLASSES, 4, 4), np.float32), Classes(np.full(CLASSES, 1 / CLASSES), np.linspace(10, 20, CLASSES)), 80
)


@pytest.fixture
def judged(tmp_path: Path) -> RealSet:
    """A set of one micrograph, of 2 Å per pixel, with particles of 200 Å."""
    specimen = Specimen(diameter_A=200.0, pixel_size_A=2.0)
    return RealSet("one", specimen, [Micrograph(np.zeros((30, 40), np.float32), 2.0, tmp_path / "a.mrc")], [])


def test_real_particles_are_classified_as_cheaply_as_those_of_maps_but_without_a_ctf(
    judged: RealSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(relion, "call", lambda command, folder: called.append(command))
    monkeypatch.setattr(relion, "keep", lambda run, out: None)
    real = steps_of(judged, tmp_path, "ours")
    with_ctf = Steps(tmp_path, "true", real.shown._replace(ctf=True))
    for steps in (real, real, with_ctf):  # done before, it is not done again
        steps.selected()
    extract, classify, _, other = called
    assert "--extract_size 150 --scale 48 --bg_radius 18" in extract
    assert {"--K 8", "--iter 15", "--offset_range 3", "--particle_diameter 220"} <= {
        " ".join(pair) for pair in zip(classify.split(), classify.split()[1:], strict=False)
    }
    options = [{word for word in command.split() if word.startswith("--")} for command in (classify, other)]
    assert options[1] - options[0] == {"--ctf", "--ctf_intact_first_peak"}


def test_what_was_measured_in_another_session_is_kept_and_drawn(
    judged: RealSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_sorted(steps: Steps) -> Sorted:
        steps.once("class2d", lambda out: None)
        return SORTED

    def save(script: str, result: dict[str, Any]) -> None:
        (tmp_path / "real_classes.json").write_text(json.dumps(result))

    picked: list[str] = []
    drawn: list[list[str]] = []
    monkeypatch.setattr(real_classes, "SETS", {"one": real_classes.PICKERS, "two": ("labels", "ours")})
    monkeypatch.setattr(real_classes, "read_set", lambda folder: judged)
    monkeypatch.setattr(real_classes, "write_project", lambda judged, folder: folder.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(real_classes, "pick", lambda picker, judged, folder, data: picked.append(picker))
    monkeypatch.setattr(real_classes, "read_sorted", read_sorted)
    monkeypatch.setattr(real_classes, "save", save)
    monkeypatch.setattr(real_classes, "result_path", lambda script, suffix: tmp_path / f"real_classes{suffix}")
    monkeypatch.setattr(real_classes, "plot", lambda rows, path: drawn.append(list(rows)))
    for pickers in (["ours"], ["labels", "crYOLO"]):
        monkeypatch.setattr(sys, "argv", ["x", "--work", str(tmp_path), "--data", ".", "--pickers", *pickers])
        real_classes.main()
    found = json.loads((tmp_path / "real_classes.json").read_text())["sets"]
    assert {name: set(row) for name, row in found.items()} == {
        "one": {"ours", "labels", "crYOLO"},
        "two": {"ours", "labels"},
    }
    assert found["one"]["ours"]["particles"] == 80
    assert picked == ["ours", "ours", "labels", "crYOLO", "labels"]
    assert drawn == [
        ["one ours", "two ours"],
        ["one labels", "one crYOLO", "one ours", "two labels", "two ours"],
    ]


def test_the_classes_of_one_picker_alone_are_drawn(tmp_path: Path) -> None:
    real_classes.plot({"one ours": SORTED}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
