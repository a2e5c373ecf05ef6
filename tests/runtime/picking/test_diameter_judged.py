"""A diameter is judged by what the micrographs show: once, where it is given; again, where it was
measured on
few.
"""

import json
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.arrivals.source import Timing
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.errors import BackendError, UsageError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.layout import list_path, log_path
from gtpick_rt.picking import fulfilling
from gtpick_rt.picking.request import Listeners, Request, Watching
from gtpick_rt.proof import opening
from gtpick_rt.records import Record
from gtpick_rt.types import FloatArray, Micrograph

Discs = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]


pytestmark = pytest.mark.usefixtures("measuring")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more comes before the first micrographs are looked at."""
    monkeypatch.setattr("gtpick_rt.arrivals.lookahead.PATIENCE_S", 0.5)


@pytest.fixture
def folder(tmp_path: Path, discs: Discs, save_mrc: SaveMrc) -> Path:
    """Two micrographs with discs of 75 Å, 425 Å wide."""
    for name in "ab":
        save_mrc(tmp_path / "in" / f"{name}.mrc", discs(75, 0.5, n=12).data)
    return tmp_path / "in"


def fulfil(folder: Path, **options: Any) -> tuple[Any, list[str]]:
    told: list[str] = []
    request = Request(inputs=(str(folder),), out=folder.parent / "out", **options)
    listeners = Listeners(notice=told.append)
    return fulfilling.fulfil(request, listeners, threading.Event()), [line for line in told if "Å" in line]


WATCH = Watching(timing=Timing(settle_s=0.1, poll_s=0.1), stop_after_idle_s=0.5)


@pytest.mark.parametrize("watching", [None, WATCH])
def test_a_diameter_far_off_is_warned_of_once_with_both_numbers(watching: Watching | None, folder: Path) -> None:
    summary, told = fulfil(folder, diameter_A=130.0, watching=watching)
    assert told == [
        "warning: --diameter 130, but the particles on the micrographs measure about 78 Å; "
        "--diameter auto takes what is measured"
    ]
    assert summary.parameters["measured_diameter_A"] == pytest.approx(75, rel=0.08)
    log = [json.loads(line) for line in log_path(folder.parent / "out").read_text().splitlines()]
    assert [entry["state"] for entry in log].count("noticed") == 1
    shutil.copy(folder / "a.mrc", folder / "c.mrc")
    again, told = fulfil(folder, diameter_A=130.0, watching=watching)
    assert (again.picked, told) == (1, [])


@pytest.mark.parametrize("watching", [None, WATCH])
@pytest.mark.parametrize(("diameter_A", "words"), [(20.0, "15 times as long"), (5000.0, "fits on the micrographs")])
def test_a_diameter_that_cannot_be_meant_needs_force(
    diameter_A: float, words: str, watching: Watching | None, folder: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        fulfil(folder, diameter_A=diameter_A, watching=watching)
    summary, told = fulfil(folder, diameter_A=diameter_A, watching=watching, force=True)
    assert summary.totals.micrographs + summary.totals.failed == 2
    assert len(told) >= 1 and words in told[0]


def test_shards_are_told_how_to_force_and_do_not_begin(folder: Path) -> None:
    for _ in range(2):  # the first must not leave its settings to the second
        with pytest.raises(UsageError, match="with shards, pick one micrograph so, without --shard, first"):
            fulfil(folder, diameter_A=20.0, shard="1/2")
    request = Request(inputs=(str(folder / "a.mrc"),), out=folder.parent / "out", diameter_A=20.0, force=True)
    fulfilling.fulfil(request, Listeners(notice=lambda line: None), threading.Event())
    done = [fulfil(folder, diameter_A=20.0, shard=f"{n}/2")[0].picked for n in (1, 2)]
    assert sum(done) == 1


def save_many(folder: Path, names: str, diameter_A: float, discs: Discs, save_mrc: SaveMrc) -> None:
    image = discs(diameter_A, 0.5, n=12).data
    for name in names:
        save_mrc(folder.parent / "made.mrc", image).rename(folder / f"{name}.mrc")


def arriving(
    folder: Path,
    then_A: float,
    discs: Discs,
    save_mrc: SaveMrc,
    names: str = "cdefghijkl",
    before: Callable[[], object] = list,
) -> Callable[[Record], None]:
    """A listener that lets ten more micrographs come, of another diameter, when the first two are
    picked.
    """
    done: list[Record] = []

    def listen(record: Record) -> None:
        done.append(record)
        if len(done) == 2:
            before()
            save_many(folder, names, then_A, discs, save_mrc)

    return listen


def watch(folder: Path, done: Callable[[Record], None], until: int = 12, **options: Any) -> tuple[Any, list[str]]:
    told: list[str] = []
    watching = Watching(timing=Timing(settle_s=0.1, poll_s=0.1), until=until)
    request = Request(inputs=(str(folder),), out=folder.parent / "out", watching=watching, **options)
    listeners = Listeners(notice=told.append, done=done)
    return fulfilling.fulfil(request, listeners, threading.Event()), [
        line for line in told if "particles measure" in line
    ]


def test_a_diameter_measured_on_few_is_measured_again_and_applied_while_no_list_is_given_out(
    folder: Path, discs: Discs, save_mrc: SaveMrc
) -> None:
    out = folder.parent / "out"
    lists: list[bool] = []
    listen = arriving(folder, 110, discs, save_mrc, before=lambda: lists.append(list_path(out).exists()))
    summary, told = watch(folder, listen)
    assert lists == [False]
    assert len(told) == 1
    assert "measure 111 Å, dark; on the first they measured 75 Å" in told[0]
    assert "picked anew at 111 Å" in told[0]
    assert summary.parameters["diameter_A"] == pytest.approx(110, rel=0.05)
    assert summary.totals.micrographs == 12
    assert list_path(out).read_text().count("_autopick.star") == 12
    log = [json.loads(line)["state"] for line in log_path(out).read_text().splitlines()]
    assert "noticed" in log


def cut_off(folder: Path, **options: Any) -> None:
    """A run that picks two, and is killed before any list is given out."""
    watch(folder, lambda record: None, until=2, **options)
    list_path(folder.parent / "out").unlink()


def test_a_run_that_was_killed_before_ten_had_come_is_gone_on_with_by_measuring_again(
    folder: Path, discs: Discs, save_mrc: SaveMrc
) -> None:
    cut_off(folder, skip_flagged=("ice",))
    save_many(folder, "cdefghijkl", 110, discs, save_mrc)
    summary, told = fulfil(folder, watching=WATCH)
    assert summary.parameters["skip_flagged"] == "ice"
    assert "picked anew at 111 Å" in told[-1]
    assert summary.parameters["diameter_A"] == pytest.approx(110, rel=0.05)
    assert (summary.totals.micrographs, summary.totals.failed) == (12, 0)


def test_a_diameter_that_was_given_to_a_run_that_was_killed_is_not_measured_again(
    folder: Path, discs: Discs, save_mrc: SaveMrc
) -> None:
    cut_off(folder, diameter_A=75.0)
    save_many(folder, "cdefghijkl", 110, discs, save_mrc)
    summary, told = fulfil(folder, watching=WATCH)
    assert (told, summary.parameters["diameter_A"], summary.totals.micrographs) == ([], 75, 12)


def test_a_kill_while_all_are_to_be_picked_anew_does_not_leave_the_first_diameter(
    folder: Path, discs: Discs, save_mrc: SaveMrc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fulfilling, "_pick_anew", kill)
        with pytest.raises(KeyboardInterrupt):
            watch(folder, arriving(folder, 110, discs, save_mrc))
    assert not list_path(folder.parent / "out").exists()
    summary, _ = fulfil(folder, watching=WATCH)
    assert summary.parameters["diameter_A"] == pytest.approx(110, rel=0.05)
    assert summary.totals.micrographs == 12


def test_what_was_moved_away_before_it_could_be_picked_anew_is_told_by_name(
    folder: Path, discs: Discs, save_mrc: SaveMrc
) -> None:
    gone, out = folder / "a.mrc", folder.parent / "out"
    move = partial(gone.rename, folder.parent / "a.mrc")
    summary, _ = watch(folder, arriving(folder, 110, discs, save_mrc, names="cdefghijklm", before=move))
    assert (summary.totals.micrographs, summary.totals.failed) == (12, 1)
    (failed,) = json.loads((out / "summary.json").read_text())["failed"]
    assert (failed["path"], (out / "a_autopick.star").exists()) == (str(gone), True)


@pytest.fixture
def opened(
    measure_discs: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    spec: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[str, ScriptedBackend]]:
    """The backends that are opened, by name; never two devices at a time."""
    opened: list[tuple[str, ScriptedBackend]] = []

    def open_backend(name: str, *_: object) -> tuple[ScriptedBackend, ModelSpec]:
        assert name == "cpu" or all(backend.closed for _, backend in opened), "two at a time"
        opened.append((name, ScriptedBackend(measure_discs)))
        return opened[-1][1], spec

    monkeypatch.setattr(opening, "open_backend", open_backend)
    return opened


def test_it_is_measured_again_on_the_cpu_and_a_device_has_one_model_at_a_time(
    folder: Path, discs: Discs, save_mrc: SaveMrc, opened: list[tuple[str, ScriptedBackend]]
) -> None:
    summary, _ = watch(folder, arriving(folder, 110, discs, save_mrc), backend="tensorrt")
    assert summary.parameters["diameter_A"] == pytest.approx(110, rel=0.05)
    assert summary.parameters["surveyed_micrographs"] > 2
    assert [name for name, _ in opened] == ["tensorrt", "cpu", "tensorrt"]
    assert all(backend.closed for _, backend in opened)


def test_where_it_cannot_be_measured_again_that_is_told_and_the_first_stays(
    folder: Path,
    discs: Discs,
    save_mrc: SaveMrc,
    opened: list[tuple[str, ScriptedBackend]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise BackendError("no memory")

    before = partial(monkeypatch.setattr, opening, "open_backend", fail)
    told: list[str] = []
    monkeypatch.setattr("gtpick_rt.picking.remeasuring.Remeasuring._tell", lambda _, line: told.append(line))
    summary, _ = watch(folder, arriving(folder, 110, discs, save_mrc, before=before))
    assert told == ["when 10 micrographs had come, they were not measured again: no memory; so 75 Å stays"]
    assert (summary.totals.micrographs, len(opened)) == (12, 1)
    assert list_path(folder.parent / "out").read_text().count("_autopick.star") == 12


def test_it_is_told_but_not_applied_where_a_list_of_picks_is_given_out(
    folder: Path, discs: Discs, save_mrc: SaveMrc
) -> None:
    out = folder.parent / "out"
    summary, told = watch(folder, arriving(folder, 110, discs, save_mrc, before=lambda: list_path(out).touch()))
    assert len(told) == 1
    assert "kept, since picks are given out: to pick all anew, --force --diameter 111" in told[0]
    assert summary.parameters["diameter_A"] == pytest.approx(75, rel=0.08)
    assert summary.totals.micrographs == 12


def test_shards_tell_it_and_go_on_as_they_have_agreed(folder: Path, discs: Discs, save_mrc: SaveMrc) -> None:
    summary, told = watch(folder, arriving(folder, 110, discs, save_mrc), shard="1/1")
    assert len(told) == 1 and "kept" in told[0]
    assert summary.parameters["diameter_A"] == pytest.approx(75, rel=0.08)


def test_a_small_difference_is_not_talked_of(folder: Path, discs: Discs, save_mrc: SaveMrc) -> None:
    summary, told = watch(folder, arriving(folder, 79, discs, save_mrc))
    assert (told, summary.totals.micrographs) == ([], 12)
    assert list_path(folder.parent / "out").read_text().count("_autopick.star") == 12


def test_a_run_that_ends_before_ten_have_come_gives_its_list_out(folder: Path) -> None:
    summary, told = watch(folder, lambda record: None, until=2)
    assert (told, summary.totals.micrographs) == ([], 2)
    assert list_path(folder.parent / "out").read_text().count("_autopick.star") == 2


def test_a_given_diameter_is_not_measured_again(folder: Path, discs: Discs, save_mrc: SaveMrc) -> None:
    summary, told = watch(folder, arriving(folder, 110, discs, save_mrc), diameter_A=75.0)
    assert (told, summary.parameters["diameter_A"], summary.totals.micrographs) == ([], 75, 12)


@pytest.mark.parametrize("shards", [False, True])
def test_a_rerun_with_nothing_to_do_keeps_what_the_survey_found_and_one_with_something_too(
    shards: bool, folder: Path
) -> None:
    out = folder.parent / "out"

    def run(**options: Any) -> dict[str, Any]:
        for shard in ("1/2", "2/2") if shards else (None,):
            fulfil(folder, shard=shard, **options)
        found: dict[str, Any] = json.loads((out / "summary.json").read_text())
        return found

    first = run()
    assert first["parameters"]["surveyed_micrographs"] > 0
    again = run()
    assert again == first | {"written": again["written"]}
    shutil.copy(folder / "a.mrc", folder / "c.mrc")
    more = run()
    assert (more["picked"], more["totals"]["micrographs"]) == (1, 3)
    survey = ("diameter_auto", "diameter_lower_quartile_A", "diameter_upper_quartile_A", "surveyed_micrographs")
    if not shards:
        assert [more["parameters"][name] for name in survey] == [first["parameters"][name] for name in survey]
