"""The selftest tells what a backend does not keep of what is promised."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.bench import selftest
from gtpick_rt.bench.selftest import run_selftest
from gtpick_rt.cli.main import app
from gtpick_rt.errors import BackendError, UnlikeError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.parity import Parity
from gtpick_rt.proof.preparing import Compared
from gtpick_rt.types import FloatArray

Answers = tuple[FloatArray, FloatArray]
ALIKE = Parity(9, 0.01, reference_picks=9, picks=9, matched=9, drift_px=0.1, usual_drift_px=0.0, rows_alike=True)
MODEL = Path("model.onnx")


class Machine:
    """Backends that answer by a script; each that is opened is kept."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec, self.opened, self.errors = spec, list[ScriptedBackend](), dict[str, Exception]()
        self.parity, self.memory = ALIKE, 1_000_000_000
        self.growth = 0

    def answer(self, tiles: FloatArray) -> Answers:
        return tiles[:, 0, 0, :2], np.zeros((len(tiles), 2, 3), np.float32)

    def open(self, name: str, model: Path) -> tuple[ScriptedBackend, ModelSpec]:
        if name in self.errors:
            raise self.errors[name]
        self.memory += self.growth
        backend = ScriptedBackend(lambda tiles: self.answer(tiles), f"scripted-{name}")
        self.opened.append(backend)
        return backend, self.spec


@pytest.fixture
def machine(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(replace(spec, queries=2))
    monkeypatch.setattr(selftest, "open_backend", machine.open)
    monkeypatch.setattr(selftest, "compare", lambda *_: machine.parity)
    monkeypatch.setattr(selftest, "_memory_in_use", lambda on_cpu: machine.memory)
    monkeypatch.setattr(selftest, "ROUNDS", 1)
    monkeypatch.setattr(selftest, "REPLAYS", 4)
    return machine


def test_what_keeps_its_promises_is_sound_and_timed(machine: Machine) -> None:
    tested = run_selftest("cuda", MODEL)
    assert (tested.problems, tested.absent, tested.runs) == ([], "", "scripted-cuda")
    assert tested.parity == ALIKE
    assert set(tested.tiles_per_s) == {1, 8, 32, 64}
    assert len(tested.opening_s) == len(tested.memory_bytes) == selftest.OPENINGS + 1
    assert len(machine.opened) == selftest.OPENINGS + 2
    assert all(backend.closed for backend in machine.opened)


def test_preprocessing_on_the_card_is_told_where_there_is_any(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, beside = Compared(9, 9, graph_s=0.01, processor_s=0.02), ScriptedBackend(machine.answer)
    monkeypatch.setattr(selftest, "try_graph", lambda *_: (beside, seen))
    assert run_selftest("cuda", MODEL, 0).preparing is None
    monkeypatch.setattr(selftest, "runner_of", lambda backend: "cuda" if backend.name == "scripted-cuda" else None)
    assert run_selftest("cuda", MODEL, 0).preparing == seen
    assert beside.closed


def test_a_graph_that_fails_is_a_problem_and_the_rest_is_looked_at(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BackendError("no kernel")

    monkeypatch.setattr(selftest, "try_graph", fail)
    monkeypatch.setattr(selftest, "runner_of", lambda backend: "tensorrt")
    seen = run_selftest("tensorrt", MODEL, 2)
    assert seen.problems == ["the processor must prepare micrographs: no kernel"]
    assert len(seen.opening_s) == 3


def test_what_is_not_here_says_why_in_its_own_words(machine: Machine) -> None:
    machine.errors["cuda"] = BackendError("no GPU is here")
    assert run_selftest("cuda", MODEL) == selftest.Tested(name="cuda", absent="no GPU is here")


def test_what_is_refused_has_failed(machine: Machine) -> None:
    machine.errors["cuda"] = UnlikeError("it picks otherwise")
    assert run_selftest("cuda", MODEL).problems == ["it picks otherwise"]


def test_what_picks_otherwise_has_failed(machine: Machine) -> None:
    machine.parity = replace(ALIKE, matched=5)
    (problem,) = run_selftest("cuda", MODEL, openings=1).problems
    assert problem.startswith("it does not pick as the reference does: 9 tiles")


def test_answers_that_change_have_failed(machine: Machine) -> None:
    really, calls = machine.answer, 0

    def changing(tiles: FloatArray) -> Answers:
        nonlocal calls
        calls += 1
        scores, boxes = really(tiles)
        return scores + np.float32(calls == 5), boxes

    machine.answer = changing  # type: ignore[method-assign]
    assert run_selftest("cuda", MODEL, openings=1).problems == ["the 3th answer to the same tiles is another"]


@pytest.mark.parametrize(("growth", "problems"), [(0, 0), (1_900_000, 0), (3_000_000, 1)])
def test_memory_that_grows_with_each_opening_has_failed(growth: int, problems: int, machine: Machine) -> None:
    machine.growth = growth
    found = run_selftest("cuda", MODEL).problems
    assert len(found) == problems
    assert all("memory grows by 3.0 MB with each opening" in problem for problem in found)


def test_what_fails_on_the_way_is_told_and_closed(machine: Machine) -> None:
    def fail(tiles: FloatArray) -> Answers:
        raise BackendError("the GPU was lost")

    machine.answer = fail  # type: ignore[method-assign]
    assert run_selftest("cuda", MODEL).problems == ["the GPU was lost"]
    assert all(backend.closed for backend in machine.opened)


@pytest.fixture
def run(machine: Machine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.setattr("gtpick_rt.doctor.open_backend", machine.open)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *options: CliRunner().invoke(
        app, ["selftest", "--model", str(tiny_model), "--openings", "1", *options]
    )


def test_the_command_writes_one_report(run: Callable[..., Any], machine: Machine, tmp_path: Path) -> None:
    machine.errors["tensorrt"] = BackendError("not installed")
    done = run("--out", str(tmp_path / "report.json"))
    assert done.exit_code == 0, done.output
    assert "cuda: sound: scripted-cuda; tiles/s: " in done.output
    assert "tensorrt: not here: not installed" in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["name"] for each in report["backends"]] == ["cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx"]
    assert {"version", "machine", "packages", "model_sha256", "diagnosis"} <= report.keys()
    assert report["packages"]["numpy"] == np.__version__


def test_of_a_command_that_is_stopped_what_was_seen_is_kept(
    run: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    machine.errors["tensorrt"] = KeyboardInterrupt()  # type: ignore[assignment]
    assert run("--out", str(tmp_path / "report.json")).exit_code != 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["name"] for each in report["backends"]] == ["cpu", "openvino", "cuda"]


def test_what_is_opened_again_and_again_has_what_prepares_for_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[ScriptedBackend] = []

    def open_preparer(*_: object) -> ScriptedBackend:
        opened.append(ScriptedBackend(machine.answer))
        return opened[-1]

    monkeypatch.setattr(selftest, "open_preparer", open_preparer)
    run_selftest("cuda", MODEL, 2)
    assert [each.closed for each in opened] == [True, True]


def test_the_command_fails_when_a_backend_does(run: Callable[..., Any], machine: Machine) -> None:
    machine.parity = replace(ALIKE, matched=5)
    done = run("--backend", "cpu")
    assert done.exit_code == 1
    assert "cpu: FAILED: it does not pick" in done.output
    assert "error: cpu: does not do what is promised" in done.output


def test_an_unknown_backend_is_refused(run: Callable[..., Any]) -> None:
    assert "choose from auto, cpu" in run("--backend", "abacus").output
