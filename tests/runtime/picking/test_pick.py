"""`gtpick_rt.pick`: the command's engine for use from Python."""

import inspect
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

import gtpick_rt
from gtpick_rt import Failure, MicrographRecord
from gtpick_rt.cli.clusters import cluster_of
from gtpick_rt.cli.pick import pick as command
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import GtpickError, UndecidedError, UsageError
from gtpick_rt.output.layout import index_path, list_path, summary_path
from gtpick_rt.types import FloatArray, Micrograph

DOTS = np.array([[71, 39], [151, 87]], np.float32)
RENAMED = {
    "diameter": "diameter_A",
    "pixel_size": "pixel_size_A",
    "settle": "settle_s",
    "max_wait": "max_wait_s",
    "stop_after_idle": "stop_after_idle_s",
}
"""Options that say their unit in Python."""
PLACES = set(inspect.signature(cluster_of).parameters) - {"shard"}


@pytest.fixture
def folder(tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """Three micrographs, each with two dots."""
    for name in "abc":
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(DOTS, (128, 192)).data)
    return tmp_path / "in"


def test_it_has_the_options_of_the_command_with_the_same_defaults() -> None:
    ours = inspect.signature(gtpick_rt.pick).parameters
    for name, option in inspect.signature(command).parameters.items():
        if name in ("metrics", "device", "url") or name in PLACES:  # of the process, or said by `cluster` or `backend`
            continue
        same = ours[RENAMED.get(name, name)]
        if name not in ("diameter", "formats", "include", "exclude"):  # spelled otherwise on a command line
            assert same.default == option.default, name


def test_paths_of_any_kind_are_picked_into_a_folder_that_is_gone_on_with(folder: Path, tiny_model: Path) -> None:
    out, told = folder.parent / "out", list[Any]()
    options: dict[str, Any] = {"diameter_A": 24, "model": str(tiny_model), "threshold": 0.9}
    first = gtpick_rt.pick([folder / "a.mrc", str(folder / "b.mrc")], str(out), formats=["box"], **options)
    assert (first.picked, first.totals.micrographs, first.totals.picks) == (2, 2, 4)
    (folder / "d.mrc").write_bytes(b"nothing")
    again = gtpick_rt.pick(folder, out, on_done=told.append, **options)
    assert (again.picked, again.totals.micrographs, again.totals.failed) == (1, 3, 1)
    assert [(type(record), Path(record.path).name) for record in told] == [
        (MicrographRecord, "c.mrc"),
        (Failure, "d.mrc"),
    ]
    assert sorted(path.name for path in (out / "box").glob("*.box")) == ["a.box", "b.box", "c.box"]


def test_the_threshold_that_was_found_holds_for_the_folder(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"diameter_A": 24, "model": str(tiny_model)}
    for found in (0.63, 0.71):  # the second time nothing is surveyed
        monkeypatch.setattr("gtpick_rt.detection.survey._threshold", lambda *_, found=found: found)
        summary = gtpick_rt.pick(folder, folder.parent / "out", **options)
        assert (summary.parameters["threshold"], summary.parameters["threshold_auto"]) == (0.63, True)
    asked = gtpick_rt.pick(folder, folder.parent / "out", **options, threshold=0.5, force=True)
    assert (asked.parameters["threshold"], asked.parameters["threshold_auto"]) == (0.5, False)
    monkeypatch.setattr("gtpick_rt.detection.survey._threshold", lambda *_: None)
    unknown = gtpick_rt.pick(folder, folder.parent / "other", **options)
    assert unknown.parameters["threshold"] == unknown.parameters["threshold_of_model"]


def test_it_watches_until_asked_to_stop(folder: Path, tiny_model: Path) -> None:
    stop, done = threading.Event(), list[str]()

    def look(record: MicrographRecord | Failure) -> None:
        done.append(record.stem)
        if len(done) == 3:
            stop.set()

    summary = gtpick_rt.pick(
        folder,
        folder.parent / "out",
        diameter_A=24,
        model=str(tiny_model),
        watch=True,
        settle_s=0.1,
        stop=stop,
        on_done=look,
    )
    assert sorted(done) == ["a", "b", "c"]
    assert summary.totals.micrographs == 3


def test_what_the_user_should_know_is_logged(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opening, asked = gtpick_rt.open_picker, list[int]()

    def undecided(diameter_A: float | None, **options: Any) -> Picker:
        micrographs = options.pop("micrographs")
        if not asked:
            asked.append(len(list(micrographs)))
            raise UndecidedError("too few particles show")
        return opening(24.0, **options)

    monkeypatch.setattr("gtpick_rt.arrivals.lookahead.PATIENCE_S", 0.5)
    monkeypatch.setattr("gtpick_rt.picking.fulfilling.open_picker", undecided)
    stop = threading.Event()
    gtpick_rt.pick(
        folder,
        folder.parent / "out",
        model=str(tiny_model),
        watch=True,
        settle_s=0.1,
        stop=stop,
        on_done=lambda record: stop.set(),
    )
    assert asked == [3]
    assert "too few particles show; or wait" in caplog.text
    assert caplog.records[0].name == "gtpick_rt"


def test_a_wrong_request_leaves_nothing_behind(folder: Path, tiny_model: Path) -> None:
    out = folder.parent / "out"
    with pytest.raises(UsageError, match="sta"):
        gtpick_rt.pick(folder, out, diameter_A=24, model=str(tiny_model), formats=["sta"])
    with pytest.raises(UsageError, match="nowhere"):
        gtpick_rt.pick(folder / "nowhere", out, diameter_A=24, model=str(tiny_model))
    assert not out.exists()


def listed(out: Path) -> list[list[str]]:
    """Micrographs and coordinate files, as RELION reads them."""
    block = gemmi.cif.read_file(str(list_path(out))).sole_block()
    return [list(row) for row in block.find(["_rlnMicrographName", "_rlnMicrographCoordinates"])]


@pytest.mark.parametrize("watching", [{}, {"watch": True, "settle_s": 0, "stop_after_idle_s": 0.1}])
def test_a_run_from_another_folder_lists_what_is_picked_by_the_names_that_it_is_given(
    watching: dict[str, Any], folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, options = folder.parent, {"diameter_A": 24, "model": str(tiny_model), **watching}
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project)
    gtpick_rt.pick("in", "out", **options)
    here = [[f"in/{name}.mrc", f"out/{name}_autopick.star"] for name in "abc"]
    assert listed(Path("out")) == here
    monkeypatch.chdir(project / "elsewhere")
    assert gtpick_rt.pick("../in", "../out", **options).picked == 0
    there = [[str(project / each) for each in row] for row in here]
    assert [list(map(os.path.abspath, row)) for row in listed(project / "out")] == there
    micrographs = json.loads(summary_path(project / "out").read_bytes())["micrographs"]
    assert [record["path"] for record in micrographs] == [f"../in/{name}.mrc" for name in "abc"]
    monkeypatch.chdir(project)
    index_path(Path("out")).unlink()
    os.utime("in/c.mrc")
    assert gtpick_rt.pick(["in/b.mrc", "in/c.mrc"], "out", **options).picked == 1
    assert listed(Path("out")) == here


def test_only_what_a_run_is_given_is_called_otherwise(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    options: dict[str, Any] = {"diameter_A": 24, "model": str(tiny_model)}
    gtpick_rt.pick("in", "out", **options)
    monkeypatch.chdir(folder)
    (folder / "c.mrc").unlink()
    gtpick_rt.pick(["b.mrc"], "../out", **options)
    assert [name for name, _ in listed(folder.parent / "out")] == ["in/a.mrc", "b.mrc", "in/c.mrc"]


REFUSED: dict[str, dict[str, Any]] = {
    "no such model": {"model": "unheard-of"},
    "a threshold below the scores that are kept": {"threshold": 0.001},
    "no diameter": {"diameter_A": None},
    "nothing has come": {"inputs": "nowhere", "diameter_A": None, "watch": True, "stop_after_idle_s": 0.5},
    "an output folder whose name is too long": {"out": "x" * 300},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_a_run_that_is_refused_leaves_nothing_behind_whether_the_file_system_has_locks(
    options: dict[str, Any], folder: Path, tiny_model: Path, file_system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtpick_rt.arrivals.lookahead.PATIENCE_S", 0.5)
    request = {
        "inputs": folder.name,
        "out": "out",
        "diameter_A": 24,
        "model": str(tiny_model),
        "settle_s": 0.1,
    } | options
    monkeypatch.chdir(folder.parent)
    before = set(Path().rglob("*"))
    with pytest.raises(GtpickError):
        gtpick_rt.pick(request.pop("inputs"), Path("new", request.pop("out")), **request)
    assert set(Path().rglob("*")) == before


def test_a_folder_of_picks_of_another_program_is_left_as_it_was(folder: Path, tiny_model: Path) -> None:
    theirs = folder.parent / "AutoPick" / "job007"
    theirs.mkdir(parents=True)
    for name in ("autopick.star", "a_autopick.star"):
        (theirs / name).touch()
    with pytest.raises(UsageError, match="picks of another program"):
        gtpick_rt.pick(folder, theirs, diameter_A=24, model=str(tiny_model))
    assert sorted(path.name for path in theirs.iterdir()) == ["a_autopick.star", "autopick.star"]
