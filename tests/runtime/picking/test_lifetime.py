"""Whoever opens a model closes it: however a run ends, and however often it opens one again."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtpick_rt import doctor
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cli.main import app
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import BackendError, UndecidedError, UnlikeError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.picking import fulfilling
from gtpick_rt.picking.pick import pick
from gtpick_rt.picking.remeasuring import Remeasuring
from gtpick_rt.proof import opening
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.types import FloatArray, Micrograph

Script = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
SaveMrc = Callable[[Path, FloatArray], Path]


class Shelf:
    """Opens scripted backends, and keeps each of them."""

    def __init__(self, script: Script, spec: ModelSpec) -> None:
        self.script, self.spec, self.opened = script, spec, list[ScriptedBackend]()

    def open(self, *_: object) -> tuple[ScriptedBackend, ModelSpec]:
        assert all(backend.closed for backend in self.opened), "two at a time"
        self.opened.append(ScriptedBackend(self.script))
        return self.opened[-1], self.spec

    @property
    def all_closed(self) -> bool:
        return bool(self.opened) and all(backend.closed for backend in self.opened)


@pytest.fixture
def shelf(measure_discs: Script, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf(measure_discs, spec)
    monkeypatch.setattr(opening, "open_backend", shelf.open)
    return shelf


@pytest.fixture
def folder(tmp_path: Path, discs: Callable[..., Micrograph], save_mrc: SaveMrc) -> Path:
    save_mrc(tmp_path / "in" / "a.mrc", discs(75, 0.5, n=12).data)
    return tmp_path / "in"


def test_a_run_closes_what_it_opened(folder: Path, tmp_path: Path, shelf: Shelf) -> None:
    assert pick(folder, tmp_path / "out").picked == 1
    assert pick(folder, tmp_path / "out").picked == 0
    assert len(shelf.opened) == 2
    assert shelf.all_closed


def test_a_run_that_fails_closes_what_it_opened(
    folder: Path, tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("the end")

    monkeypatch.setattr(fulfilling, "run", fail)
    with pytest.raises(BackendError, match="the end"):
        pick(folder, tmp_path / "out")
    assert shelf.all_closed


def test_a_picker_that_is_opened_again_as_others_have_agreed_replaces_the_first(
    folder: Path, tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick(folder, tmp_path / "others", diameter_A=80.0)
    with OutputFolder(tmp_path / "others") as output:
        agreed = output.previous
    monkeypatch.setattr(OutputFolder, "agree", lambda self, settings: agreed)
    pick(folder, tmp_path / "out")
    assert len(shelf.opened) == 3
    assert shelf.all_closed


def test_a_device_that_hangs_does_not_keep_the_run_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(fulfilling, "_CLOSING_S", 0.05)

    class Hung(Picker):
        def __init__(self) -> None:
            pass

        def close(self) -> None:
            hanging.wait()

    with fulfilling._closing(Hung()):
        pass
    hanging.set()


@pytest.mark.parametrize(
    ("given_out", "now_A", "differs"), [(False, 75.0, False), (True, 110.0, False), (False, 110.0, True)]
)
def test_what_is_opened_to_measure_again_is_closed(
    given_out: bool, now_A: float, differs: bool, spec: ModelSpec, measure_discs: Script
) -> None:
    measured = ScriptedBackend(measure_discs)
    hold: Any = type("Hold", (), {"begin": lambda *_: None, "end": lambda *_: None, "given_out": given_out})()
    output: Any = type("Output", (), {"hold": hold, "log": lambda *_, **__: None})()
    source: Any = type("Source", (), dict.fromkeys(("live", "again", "retry", "done")))()
    before = Picker(ScriptedBackend(measure_discs), spec, 75.0)
    now, stop = Picker(measured, spec, now_A), threading.Event()
    again = Remeasuring(source, before, output, lambda _: now, True, lambda _: None, stop)
    assert again._differs([]) == differs
    assert measured.closed
    assert not before.backend.closed  # type: ignore[attr-defined]


def test_a_model_that_finds_no_diameter_is_closed(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(UndecidedError):
        open_picker(micrographs=[])
    assert shelf.all_closed


def test_a_backend_that_is_refused_is_closed(
    spec: ModelSpec, measure_discs: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Candidate(ScriptedBackend):
        version = "1"

        def open(self, model: Path) -> ModelSpec:
            return spec

    def refuse(*_: object) -> None:
        raise UnlikeError("it does not pick alike")

    candidate = Candidate(measure_discs)
    monkeypatch.setattr(opening, "prove_once", refuse)
    with pytest.raises(UnlikeError):
        opening._proved(candidate, Path("model.onnx"))  # type: ignore[arg-type]
    assert candidate.closed


def test_the_commands_close_what_they_open(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "open_backend", shelf.open)
    doctor._run_one_tile("cpu", resolve_model(None))
    assert shelf.all_closed
    monkeypatch.setattr("gtpick_rt.bench.measuring.measure", lambda *_: 1 / 0)
    done = CliRunner().invoke(app, ["bench", "--rounds", "1", "--side", "300x300", "--count", "2"])
    assert isinstance(done.exception, ZeroDivisionError)
    assert len(shelf.opened) == 2
    assert shelf.all_closed
