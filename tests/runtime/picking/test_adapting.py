"""A run whose network adapts itself: what is learned is taken over, kept, and gone on with; what is
not learned changes nothing.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.shared import tiny_runs
from benchmarks.shared.tiny_runs import flaws_of, listed_in
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.errors import UsageError
from gtpick_rt.models.spec import METADATA_KEY, ModelSpec
from gtpick_rt.output.layout import adapted_folder, list_path, log_path, summary_path
from gtpick_rt.output.summary import Change, Outcome, read_summary
from gtpick_rt.picking import adapting, fulfilling
from gtpick_rt.picking.request import Listeners, Request, Watching
from gtpick_rt.types import FloatArray, Micrograph

DOT = np.array([[71, 39]], np.float32)
WATCH = Watching(timing=Timing(settle_s=0.1, poll_s=0.1), stop_after_idle_s=30.0)
LEARNER = """
    import json, os, pathlib, shutil, sys, time
    model, way, *arguments = sys.argv[1:]
    out = pathlib.Path(arguments[arguments.index("--out") + 1])
    learners = out.parents[4] / "learners"
    learners.mkdir(exist_ok=True)
    learner = learners / f"{out.parent.name}-{sum(each.endswith('.mrc') for each in arguments)}"
    learner.write_text(json.dumps(arguments))
    print("adapting, step 1 of 2\\nlooking at it ...", file=sys.stderr, flush=True)
    if way == "refuses":
        print("error: no particles are seen there", file=sys.stderr)
        sys.exit(4)
    if way == "cannot be used so":
        sys.exit("error: a.mrc: no such file or folder")
    if way == "meets a full disk":
        raise OSError(28, "No space left on device")
    if way == "breaks":
        os.kill(os.getpid(), 9)
    if way == "hangs":
        time.sleep(60)
    shutil.copy(model, out)
    change = {"name": "a.mrc", "picks": [3, 4], "median_score": [None, 0.5]}
    out.with_suffix(".json").write_text(json.dumps([change]))
    print("learned from them")
    print("picks on them: 3 before, 4 now")
    print("parity with something")
"""
"""Stands for `gtpick-rt adapt`."""
LEARNED = Change(name="a.mrc", picks=(3, 4), median_score=(None, 0.5))
"""What it says that it has changed."""


@pytest.fixture
def folder(tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """Thirteen micrographs with a dot each."""
    for name in "abcdefghijklm":
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(DOT, (128, 192)).data)
    return tmp_path / "in"


Ways = Callable[[str], None]


@pytest.fixture
def learner(tiny_model: Path, tiny_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    """A function that says what becomes of learning."""
    model = onnx.load(tiny_model)
    made_of = f"tiny.safetensors sha256 {hashlib.sha256(b'').hexdigest()}"
    spec = replace(tiny_spec, name="learned", provenance={"diameter_A": "26.5", "adapted_from": made_of})
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, tmp_path / "learned.onnx")
    program = tmp_path / "learner.py"
    program.write_text(textwrap.dedent(LEARNER))

    def will(way: str) -> None:
        command = (sys.executable, str(program), str(tmp_path / "learned.onnx"), way)
        monkeypatch.setattr(adapting, "PROGRAM", command)

    will("learns")
    return will


Run = Callable[..., tuple[Any, list[str]]]


@pytest.fixture
def run(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that picks the folder with --adapt; gives the summary and what was told."""
    monkeypatch.setattr("gtpick_rt.arrivals.lookahead.PATIENCE_S", 0.5)

    def fulfil(stop: threading.Event | None = None, **options: Any) -> tuple[Any, list[str]]:
        told: list[str] = []
        tiny_model.with_suffix(".safetensors").touch()
        common: dict[str, Any] = {"adapt": True, "diameter_A": 24.0, "model": str(tiny_model), "force": False}
        request = Request(inputs=(str(folder),), out=folder.parent / "out", **(common | options))
        return fulfilling.fulfil(request, Listeners(notice=told.append), stop or threading.Event()), told

    return fulfil


def models_of(out: Path) -> dict[str, int]:
    """How many micrographs each model has picked."""
    return Counter(tiny_runs.models_of(out).values())


def times_learned(out: Path) -> int:
    return len(list((out.parent / "learners").glob("*")))


def stop_when(reached: Callable[[], bool]) -> threading.Event:
    """What is set when this is so."""
    stop = threading.Event()

    def look() -> None:
        while not reached():
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=look, daemon=True).start()
    return stop


def test_particles_are_picked_at_the_size_at_which_they_were_learned(run: Run, learner: Ways, folder: Path) -> None:
    summary, _ = run(diameter_A=None)
    assert summary.parameters["diameter_A"] == 26.5
    again, _ = run(diameter_A=None)
    assert again.parameters["diameter_A"] == 26.5


def test_all_are_picked_with_what_was_learned_before_and_once_only(run: Run, learner: Ways, folder: Path) -> None:
    out = folder.parent / "out"
    summary, told = run()
    assert models_of(out) == {"learned": 13}
    assert summary.model.name == "learned"
    assert summary.adaptation.message == "learned from them; picks on them: 3 before, 4 now"
    assert summary.adaptation.changes == [LEARNED]
    kept = read_summary(summary_path(out))
    assert kept is not None
    assert kept.adaptation == summary.adaptation
    assert told[-1] == "adapted: learned from them; picks on them: 3 before, 4 now"
    (begun,) = (folder.parent / "learners").iterdir()
    assert begun.name.endswith(f"-{adapting.MICROGRAPHS}")
    assert [path.name for path in adapted_folder(out).iterdir() if path.is_dir()] == []
    shutil.copy(folder / "a.mrc", folder / "n.mrc")
    again, _ = run()
    assert (again.picked, models_of(out), times_learned(out)) == (1, {"learned": 14}, 1)
    assert again.adaptation == summary.adaptation
    shutil.copy(folder / "a.mrc", folder / "o.mrc")
    unasked, _ = run(adapt=False, model=str(adapted_folder(out) / "adapted.onnx"))
    kept = read_summary(summary_path(out))
    assert kept is not None
    assert (unasked.picked, kept.adaptation) == (1, summary.adaptation)


def test_what_cannot_be_learned_is_told_once_and_the_general_network_picks(
    run: Run, learner: Ways, folder: Path, tiny_spec: ModelSpec
) -> None:
    learner("refuses")
    out = folder.parent / "out"
    _, told = run()
    assert told[-1] == "not adapted, the general network picks: no particles are seen there"
    assert models_of(out) == {tiny_spec.name: 13}
    states = [json.loads(line)["state"] for line in log_path(out).read_text().splitlines()]
    assert "not adapted" in states
    again, told = run()
    assert (again.picked, told, times_learned(out)) == (0, [], 1)
    for kept in (again, read_summary(summary_path(out))):
        assert kept.adaptation == Outcome(message="no particles are seen there")


def test_while_micrographs_arrive_picking_begins_at_once_and_all_end_with_the_adapted_model(
    run: Run, learner: Ways, folder: Path
) -> None:
    out = folder.parent / "out"
    stop = stop_when(lambda: list_path(out).exists() and models_of(out) == {"learned": 13})
    summary, told = run(stop, watching=WATCH)
    assert models_of(out) == {"learned": 13}
    assert summary.totals.micrographs == 13
    assert len(listed_in(list_path(out))) == 13
    assert flaws_of(out) == []
    assert any(line.startswith("adapted: ") for line in told)
    assert summary.adaptation.changes == [LEARNED]


def test_a_refusal_while_micrographs_arrive_stands_in_the_summary_of_that_run(
    run: Run, learner: Ways, folder: Path
) -> None:
    learner("refuses")
    out = folder.parent / "out"
    summary, _ = run(stop_when(lambda: adapting.outcome_in(out) is not None), watching=WATCH)
    for kept in (summary, read_summary(summary_path(out))):
        assert kept.adaptation == Outcome(message="no particles are seen there")


def test_a_refusal_is_told_where_another_run_has_picked_all(run: Run, learner: Ways, folder: Path) -> None:
    learner("refuses")
    before, _ = run(adapt=False)
    summary, _ = run()
    kept = read_summary(summary_path(folder.parent / "out"))
    assert (before.adaptation, summary.picked) == (None, 0)
    assert kept is not None
    assert kept.adaptation == Outcome(message="no particles are seen there")


@pytest.mark.parametrize("watching", [None, WATCH])
def test_a_run_that_is_stopped_while_it_learns_leaves_no_process_and_begins_once_more(
    watching: Watching | None, run: Run, learner: Ways, folder: Path
) -> None:
    learner("hangs")
    run(stop_when(lambda: times_learned(folder.parent / "out") > 0), watching=watching)
    out = folder.parent / "out"
    assert adapting.outcome_in(out) is None
    learner("learns")
    run(stop_when(lambda: models_of(out) == {"learned": 13}) if watching else None, watching=watching)
    assert (models_of(out), times_learned(out)) == ({"learned": 13}, 2)


def test_a_run_that_ends_before_it_has_learned_says_so_and_the_next_one_learns(
    run: Run, learner: Ways, folder: Path
) -> None:
    learner("hangs")
    out = folder.parent / "out"
    summary, told = run(watching=replace(WATCH, until=13))
    assert summary.totals.micrographs == 13
    assert "before it had learned" in told[-1]
    assert read_summary(summary_path(out)).adaptation.message in told[-1]  # type: ignore[union-attr]
    learner("learns")
    run(stop_when(lambda: models_of(out) == {"learned": 13}), watching=WATCH)
    assert models_of(out) == {"learned": 13}


def test_what_the_general_network_has_picked_is_picked_once_more(
    run: Run, learner: Ways, folder: Path, tiny_spec: ModelSpec
) -> None:
    out = folder.parent / "out"
    run(adapt=False)
    assert models_of(out) == {tiny_spec.name: 13}
    summary, _ = run()
    assert (summary.picked, models_of(out)) == (13, {"learned": 13})


@pytest.mark.parametrize("watching", [None, WATCH])
def test_what_was_moved_away_before_it_could_be_picked_once_more_is_told_by_name(
    watching: Watching | None, run: Run, learner: Ways, folder: Path, tiny_spec: ModelSpec
) -> None:
    out = folder.parent / "out"
    both = {"learned": 12, tiny_spec.name: 1}
    run(adapt=False)
    (folder / "a.mrc").rename(folder.parent / "a.mrc")
    summary, _ = run(stop_when(lambda: models_of(out) == both) if watching else None, watching=watching)
    assert models_of(out) == both
    assert (summary.totals.micrographs, summary.totals.failed, len(listed_in(list_path(out)))) == (12, 1, 12)
    for _ in range(2):
        (failed,) = json.loads(summary_path(out).read_text())["failed"]
        assert failed["path"] == str(folder / "a.mrc")
        assert "is not there any more to be picked anew" in failed["message"]
        run()
    (folder.parent / "a.mrc").rename(folder / "a.mrc")
    summary, _ = run()
    assert (models_of(out), summary.totals.failed) == ({"learned": 13}, 0)


def test_where_not_to_pick_stays_when_the_adapted_model_takes_over(run: Run, learner: Ways, folder: Path) -> None:
    asked = {"margin": "20", "skip_flagged": ("ice",), "avoid_contamination": True}
    before, _ = run(adapt=False, **asked)
    summary, _ = run()
    assert models_of(folder.parent / "out") == {"learned": 13}
    for name in ("margin", "mask", "skip_flagged", "avoid_contamination"):
        assert summary.parameters[name] == before.parameters[name]


def test_by_force_it_learns_anew(run: Run, learner: Ways, folder: Path) -> None:
    run()
    summary, _ = run(force=True)
    assert (summary.picked, times_learned(folder.parent / "out")) == (13, 2)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("breaks", "exit code -9"),
        ("cannot be used so", "a.mrc: no such file or folder"),
        ("meets a full disk", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_learner_that_breaks_is_told_and_tried_again_by_the_next_run(
    way: str, why: str, run: Run, learner: Ways, folder: Path, tiny_spec: ModelSpec
) -> None:
    out = folder.parent / "out"
    learner(way)
    _, told = run()
    assert told[-1] == f"not adapted, the general network picks: {why}"
    assert (models_of(out), adapting.outcome_in(out)) == ({tiny_spec.name: 13}, None)
    learner("learns")
    run()
    assert models_of(out) == {"learned": 13}


@pytest.mark.parametrize("watching", [None, WATCH])
@pytest.mark.parametrize(
    ("what", "words"),
    [("tempfile.mkdtemp", "learning cannot begin"), ("write_atomic", "what was learned cannot be kept")],
)
def test_where_the_disk_is_full_as_learning_begins_or_ends_the_general_network_picks_all(
    what: str,
    words: str,
    watching: Watching | None,
    run: Run,
    learner: Ways,
    folder: Path,
    tiny_spec: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, told = folder.parent / "out", list[str]()

    def full(*_: object, **__: object) -> None:
        told.append("tried")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"gtpick_rt.picking.adapting.{what}", full)
        stop = stop_when(lambda: bool(told) and models_of(out) == {tiny_spec.name: 13}) if watching else None
        summary, notices = run(stop, watching=watching)
    assert models_of(out) == {tiny_spec.name: 13}
    assert summary.adaptation.message.startswith(f"{words} ([Errno 28] No space left on device); the next run ")
    assert (told, notices.count(summary.adaptation.told)) == (["tried"], 1)
    assert adapting.outcome_in(out) is None
    run()
    assert models_of(out) == {"learned": 13}


def test_a_micrograph_whose_name_begins_as_an_option_does_is_none(learner: Ways, tmp_path: Path) -> None:
    odd = Job(Path("-a.mrc"), PurePosixPath("-a"), "-a.mrc")
    process = adapting.Adaptation(tmp_path / "out", [odd], 24.0, 1.0, lambda *_: None, beside=False)
    process.close()
    assert list(process._process.args)[-2:] == ["--", "-a.mrc"]  # type: ignore[arg-type]


def test_what_was_not_learned_to_an_end_leaves_nothing(learner: Ways, tmp_path: Path) -> None:
    learner("hangs")
    adapting.Adaptation(tmp_path / "out", [], 24.0, 1.0, lambda *_: None, beside=False).close()
    assert not adapted_folder(tmp_path / "out").exists()


def test_time_to_adapt_in_goes_with_adapting() -> None:
    with pytest.raises(UsageError, match="--adapt-minutes goes with --adapt"):
        Request(inputs=("in",), out=Path("out"), adapt_minutes=2)


@pytest.mark.parametrize(
    ("inputs", "options", "command"),
    [
        (("my mics",), {}, "adapt 'my mics' --out adapted.onnx"),
        (("in",), {"diameter_A": 160.0, "pixel_size_A": 1.2}, "adapt in --diameter 160 --pixel-size 1.2 --out"),
        (("a", "b", "c", "d"), {}, "adapt MICROGRAPHS --out"),
    ],
)
def test_shards_are_told_what_to_type_to_adapt_first(
    inputs: tuple[str, ...], options: dict[str, float], command: str
) -> None:
    with pytest.raises(UsageError, match=f"with gtpick-rt {re.escape(command)}.* every shard --model adapted"):
        Request(inputs=inputs, out=Path("out"), adapt=True, shard="1/2", **options)  # type: ignore[arg-type]


def test_paths_on_stdin_which_come_once_are_refused_before_anything_is_picked() -> None:
    words = r"name a folder or a list, with --watch.*gtpick-rt adapt MICROGRAPHS --diameter 160 --out adapted.onnx, and"
    for watching in (None, WATCH):
        with pytest.raises(UsageError, match=words):
            Request(inputs=("-",), out=Path("out"), diameter_A=160.0, adapt=True, watching=watching)
    Request(inputs=("-",), out=Path("out"), watching=WATCH)


def option(out: Path, name: str) -> str | None:
    """The value of an option with which the one learner was started."""
    (learner,) = (out.parent / "learners").iterdir()
    arguments = json.loads(learner.read_text())
    return arguments[arguments.index(name) + 1] if name in arguments else None


@pytest.mark.parametrize("watching", [None, WATCH])
def test_the_learner_is_told_of_the_pixel_size_and_starts_from_the_weights_beside_the_model(
    watching: Watching | None, run: Run, learner: Ways, folder: Path, tiny_model: Path
) -> None:
    out = folder.parent / "out"
    stop = stop_when(lambda: models_of(out) == {"learned": 13}) if watching else None
    run(stop, watching=watching, pixel_size_A=0.75)
    assert option(out, "--pixel-size") == "0.75"
    assert option(out, "--weights") == str(tiny_model.with_suffix(".safetensors"))


def test_another_model_than_the_one_that_was_adapted_is_refused(
    run: Run, learner: Ways, folder: Path, tiny_model: Path
) -> None:
    run()
    other = folder.parent / "other.onnx"
    shutil.copy(tiny_model, other)
    other.with_suffix(".safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match=r"adapted from tiny\.safetensors .* and --model .*other\.onnx is another"):
        run(model=str(other))
    with pytest.raises(UsageError, match=r"--model gtpick-nano is another"):
        run(model="gtpick-nano")
    for options in ({}, {"model": None}):
        assert models_of(folder.parent / "out") == {"learned": 13}
        run(**options)


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.fp16.onnx", "of.v2.onnx"])
def test_weights_lie_beside_a_model_whatever_its_name(name: str, tiny_model: Path, tmp_path: Path) -> None:
    if name != tiny_model.name:
        shutil.copy(tiny_model, tmp_path / name)
    weights = tmp_path / f"{name.removesuffix('.onnx').removesuffix('.fp16')}.safetensors"
    with pytest.raises(UsageError, match=re.escape(f"and {weights} is missing: put them there; or adapt first")):
        adapting.weights_of(str(tmp_path / name))
    weights.touch()
    assert adapting.weights_of(str(tmp_path / name)) == weights
    assert adapting.weights_of(None) is adapting.weights_of("gtpick-nano") is None


def test_a_model_without_its_weights_is_refused_before_anything_is_picked(
    run: Run, learner: Ways, folder: Path, tiny_model: Path
) -> None:
    shutil.copy(tiny_model, folder.parent / "alone.onnx")
    with pytest.raises(UsageError, match=r"gtpick-rt adapt MICROGRAPHS --weights WEIGHTS --out adapted.onnx"):
        run(model=str(folder.parent / "alone.onnx"))
    assert not (folder.parent / "out").exists()


def test_a_model_that_has_adapted_itself_is_refused_before_anything_is_picked(
    run: Run, learner: Ways, folder: Path
) -> None:
    (folder.parent / "learned.safetensors").touch()
    with pytest.raises(UsageError, match=r"learned\.onnx: this network has adapted itself already"):
        run(model=str(folder.parent / "learned.onnx"))
    assert not (folder.parent / "out").exists()


def test_what_is_not_installed_is_said_before_anything_is_picked(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--adapt: torch is not installed: install the extra train"):
        run()
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize("beside", [True, False])
def test_the_learning_process_has_the_lowest_priority_where_picking_goes_on(
    beside: bool, learner: Ways, tmp_path: Path
) -> None:
    learner("hangs")
    process = adapting.Adaptation(tmp_path / "out", [], 24.0, 1.0, lambda *_: None, beside=beside)
    try:
        shown = subprocess.run(["ps", "-o", "ni=", "-p", str(process._process.pid)], capture_output=True, check=True)
        assert int(shown.stdout) == (19 if beside else os.getpriority(os.PRIO_PROCESS, 0))
    finally:
        process.close()
    assert process._process.returncode == -signal.SIGKILL
