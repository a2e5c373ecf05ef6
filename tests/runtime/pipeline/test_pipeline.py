"""A run commits every micrograph that can be picked, and accounts for the others."""

import errno
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import gemmi
import mrcfile
import numpy as np
import pytest
from PIL import Image

from gtpick_rt.arrivals import opening
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.arrivals.stamp import Stamp, stamp_of
from gtpick_rt.backends.base import Answers, AtOnce, Tiles
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import BackendError, UsageError
from gtpick_rt.output.commit import load_detections
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import log_path
from gtpick_rt.output.pick_files import PickFiles
from gtpick_rt.output.summary import Summary
from gtpick_rt.pipeline import bookkeeping, inferring, reading, stages
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.records import Failure, MicrographRecord, PickedFrom, Record
from gtpick_rt.types import FloatArray, Micrograph, Picks

PLACES = np.array([[60, 50], [200, 90], [130, 140]], np.float32)
Script = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
MakeDots = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]


@dataclass
class Outcome:
    """What a run says of itself, and what summary.json holds after it."""

    summary: Summary
    micrographs: list[MicrographRecord]
    failed: list[Failure]


def run(
    jobs: Sequence[Job],
    picker: Picker,
    out: Path,
    threshold: float | None = None,
    *,
    force: bool = False,
    failed: Sequence[Failure] = (),
    **options: Any,
) -> Outcome:
    """Pick these jobs into this folder."""
    with OutputFolder(out, force) as output:
        summary = pipeline.run(Listed(jobs, failed), picker, output, settings_of(picker, threshold), **options)
    written = json.loads((out / "summary.json").read_text())
    return Outcome(
        summary,
        [MicrographRecord(**record) for record in written["micrographs"]],
        [Failure(**failure) for failure in written["failed"]],
    )


@pytest.fixture
def make_job(tmp_path: Path, dots: MakeDots, save_mrc: SaveMrc) -> Callable[[str], Job]:
    """A function that writes a micrograph with three dots."""

    def make(stem: str) -> Job:
        path = save_mrc(tmp_path / "in" / f"{stem}.mrc", dots(PLACES, (180, 260)).data)
        return Job(path, PurePosixPath(stem), str(path), 1.0)

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two micrographs are shown to the network together, so that calls of it can be counted."""
    monkeypatch.setattr(inferring, "_TOGETHER", 1)


def acting(picker: Picker, act: Callable[[int], None]) -> Picker:
    """The same picker, which calls `act` with 0, 1, ... before each micrograph (all are smaller
    than a tile).
    """
    backend = picker.backend
    assert isinstance(backend, ScriptedBackend)
    script, count = backend.script, iter(range(1000))

    def scripted(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        act(next(count))
        return script(tiles)

    return Picker(replace(backend, script=scripted), picker.spec, picker.diameter_A)


def listed(out: Path) -> list[str]:
    """The micrographs in the list that RELION reads."""
    block = gemmi.cif.read_file(str(out / "autopick.star")).sole_block()
    return [name.str(0) for name in block.find(["_rlnMicrographName"])]


@pytest.fixture
def fail_to_write(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Callable[[], None]]:
    """A function that lets writing fail, with this error, wherever the path holds this text; until
    what it returns.
    """

    def arrange(text: str, number: int) -> Callable[[], None]:
        really = os.open
        failing = [True]

        def opening(path: Path, flags: int, *args: int) -> int:
            if failing and flags & os.O_CREAT and text in str(path):
                raise OSError(number, os.strerror(number), str(path))
            return really(path, flags, *args)

        monkeypatch.setattr(os, "open", opening)
        return failing.clear

    return arrange


def coordinates(star: Path) -> FloatArray:
    block = gemmi.cif.read_file(str(star)).sole_block()
    columns = (block.find_values(tag) for tag in ("_rlnCoordinateX", "_rlnCoordinateY"))
    return np.array([[float(v) for v in column] for column in columns], np.float32).T


def test_each_micrograph_gets_its_star_file_and_detections(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    jobs = [make_job(stem) for stem in ("b", "sub/a", "c.with.dots")]
    summary = run(jobs, dot_picker, out)
    for job in jobs:
        found = coordinates(out / f"{job.stem}_autopick.star")
        assert np.abs(found[np.lexsort(found.T)] - PLACES[np.lexsort(PLACES.T)]).max() < 2.1
        assert len(load_detections(out, job.stem)) == 3
    assert [record.stem for record in summary.micrographs] == ["b", "sub/a", "c.with.dots"]
    assert {(record.picks, record.detections) for record in summary.micrographs} == {(3, 3)}
    assert (summary.micrographs[0].width, summary.micrographs[0].height) == (260, 180)
    assert listed(out) == [job.name for job in jobs]


def test_the_summary_accounts_for_the_run(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    summary = run(
        [make_job("a")], dot_picker, out, command=["gtpick-rt", "pick"], parameters={"diameter_A": 48.0}
    ).summary
    assert summary.backend == "scripted"
    assert summary.model.name == "test-model"
    assert summary.command == ["gtpick-rt", "pick"]
    assert set(summary.stage_seconds) == {"read", "preprocess", "infer", "decode", "write"}
    assert all(seconds > 0 for seconds in summary.stage_seconds.values())
    written = json.loads((out / "summary.json").read_text())
    assert written["parameters"] == {"diameter_A": 48.0, "threshold": 0.4}
    assert written["totals"]["picks"] == 3


def test_bad_micrographs_are_recorded_and_stop_nothing(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk.mrc").write_bytes(b"not an image")
    junk = Job(tmp_path / "junk.mrc", PurePosixPath("junk"), "junk.mrc", 1.0)
    absent = Job(tmp_path / "absent.mrc", PurePosixPath("absent"), "absent.mrc", 1.0)
    coarse = replace(make_job("coarse"), pixel_size_A=30.0)

    def fail_on_second(n: int) -> None:
        if n == 1:
            raise RuntimeError("out of memory, say")

    jobs = [junk, make_job("a"), absent, make_job("unlucky"), coarse, make_job("z")]
    told: list[Record] = []
    summary = run(jobs, acting(dot_picker, fail_on_second), out, listeners=Listeners(done=told.append))
    assert [record.stem for record in summary.micrographs] == ["a", "z"]
    assert [failure.stem for failure in summary.failed] == ["junk", "absent", "unlucky", "coarse"]
    assert summary.failed[2].kind == "MicrographError"
    assert summary.failed[2].message.endswith("unlucky.mrc: out of memory, say")
    assert summary.failed[3].kind == "PixelError"
    assert str(tmp_path / "absent.mrc") in summary.failed[1].message
    assert [record.stem for record in told] == [str(job.stem) for job in jobs]
    assert sorted(p.name for p in out.glob("*_autopick.star")) == ["a_autopick.star", "z_autopick.star"]


def test_an_output_that_cannot_be_written_is_a_failure_of_its_micrograph(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    (out / "a_autopick.star").mkdir(parents=True)
    summary = run([make_job("a"), make_job("b")], dot_picker, out)
    (failure,) = summary.failed
    assert failure.kind == "UnwritableError"
    assert failure.message == f"{out / 'a_autopick.star'}: cannot be written (Is a directory)"
    assert [record.stem for record in summary.micrographs] == ["b"]


def test_a_name_too_long_for_its_outputs_does_not_cost_the_others_their_list(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    long = make_job("x" * 245)
    summary = run([make_job("a"), long], dot_picker, out)
    assert [failure.message for failure in summary.failed] == [
        f"{out / long.stem}_autopick.star: cannot be written (File name too long)"
    ]
    assert len(listed(out)) == 1
    totals = json.loads((out / "summary.json").read_text())["totals"]
    assert (totals["micrographs"], totals["failed"], totals["picks"]) == (1, 1, 3)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_while_the_disk_is_full_the_run_waits_and_then_goes_on(
    number: int,
    dot_picker: Picker,
    make_job: Callable[[str], Job],
    out: Path,
    fail_to_write: Callable[[str, int], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.01)
    (out / "full").mkdir(parents=True)
    mend = fail_to_write("/full/", number)
    jobs = [make_job("a"), make_job("full/b"), *(make_job(f"m{n}") for n in range(9))]
    begun: list[int] = []
    told: list[str] = []

    def free_space(text: str) -> None:
        told.append(text)
        time.sleep(0.1)
        assert len(begun) < 7  # no more work is taken
        mend()

    found = run(jobs, acting(dot_picker, begun.append), out, listeners=Listeners(notice=free_space))
    assert told == [f"{out}: disk full or read-only ({os.strerror(number)}): waiting until it can be written to"]
    assert [record.stem for record in found.micrographs] == [str(job.stem) for job in jobs]


def test_a_run_that_is_stopped_while_the_disk_is_full_says_so_and_loses_nothing(
    dot_picker: Picker,
    make_job: Callable[[str], Job],
    out: Path,
    fail_to_write: Callable[[str, int], Callable[[], None]],
) -> None:
    (out / "full").mkdir(parents=True)
    mend = fail_to_write("/full/", errno.ENOSPC)
    stop = threading.Event()
    jobs = [make_job("a"), make_job("full/b")]
    with pytest.raises(UsageError, match=rf"{out}: disk full or read-only .*: free space and run again"):
        run(jobs, dot_picker, out, stop=stop, listeners=Listeners(notice=lambda text: stop.set()))
    assert [record["stem"] for record in json.loads((out / "summary.json").read_text())["micrographs"]] == ["a"]
    mend()
    assert [record.stem for record in run(jobs[1:], dot_picker, out).micrographs] == ["a", "full/b"]


@pytest.mark.parametrize(("broken", "other"), [("autopick.star", "summary.json"), ("summary.json", "autopick.star")])
def test_each_list_is_written_whatever_becomes_of_the_other(
    broken: str, other: str, dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    (out / broken).mkdir(parents=True)
    with pytest.raises(UsageError, match=rf"{broken}: cannot be written \(Is a directory\); the picks are whole"):
        run([make_job("a")], dot_picker, out, force=True)
    assert (out / other).is_file()


def test_picks_of_other_settings_are_replaced_only_by_force(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    jobs = [make_job(stem) for stem in ("a", "b", "c")]
    run(jobs, dot_picker, out)
    before = (out / "a_autopick.star").read_bytes()
    refused = rf"{out} holds picks made otherwise \(--threshold 0.4, now 0.95\); choose another .*, or --force"
    with pytest.raises(UsageError, match=refused):
        run(jobs, dot_picker, out, 0.95)
    assert (out / "a_autopick.star").read_bytes() == before
    jobs[1].path.write_bytes(b"damaged since")
    run(jobs[:2], dot_picker, out, 0.95, force=True)
    assert coordinates(out / "a_autopick.star").size == 0
    assert not (out / "b_autopick.star").exists()
    assert (out / "c_autopick.star").exists()
    assert listed(out) == [jobs[0].name]


def test_a_second_run_goes_on_where_the_first_ended(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    first, second = make_job("a"), make_job("b")
    run([first], dot_picker, out)
    with OutputFolder(out) as output:
        assert output.previous == settings_of(dot_picker)
        status = first.path.stat()
        picked_from = PickedFrom(status.st_size, status.st_mtime_ns, 1.0, name=first.name)
        assert dict(output.finished) == {str(first.stem): picked_from}
    found = run([second], dot_picker, out)
    assert (found.summary.picked, found.summary.totals.micrographs) == (1, 2)
    assert listed(out) == [first.name, second.name]


@pytest.mark.parametrize("damage", [None, b"", b"not a database", "cut"])
def test_without_a_sound_index_the_star_files_tell_what_is_done(
    damage: bytes | str | None, dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    jobs = [make_job(stem) for stem in ("a", "sub/b", "data_1")]
    before = run(jobs, dot_picker, out)
    index = out / ".gtpick" / "index.sqlite"
    whole = index.read_bytes()
    index.unlink()
    if damage is not None:
        index.write_bytes(whole[: len(whole) // 2] if isinstance(damage, str) else damage)
    with OutputFolder(out) as output:
        assert output.previous == settings_of(dot_picker)
        assert set(output.finished) == {str(job.stem) for job in jobs}
    after = run([make_job("z")], dot_picker, out)
    assert sorted(map(repr, after.micrographs[:-1])) == sorted(map(repr, before.micrographs))


def test_a_micrograph_whose_star_file_was_removed_is_not_done(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    jobs = [make_job(stem) for stem in ("a", "b")]
    run(jobs, dot_picker, out)
    (out / "a_autopick.star").unlink()
    with OutputFolder(out) as output:
        assert set(output.finished) == {str(jobs[1].stem)}


def test_star_files_of_another_program_are_not_replaced_unasked(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    out.mkdir()
    theirs = out / "a_autopick.star"
    theirs.write_text("data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n")
    with pytest.raises(UsageError, match=rf"{theirs}: picks of another program or version .*--force"):
        run([make_job("a")], dot_picker, out)
    assert "1 2" in theirs.read_text()
    assert list(out.iterdir()) == [theirs]
    assert len(run([make_job("b")], dot_picker, out, force=True).micrographs) == 1


def test_a_second_writer_is_refused(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    with OutputFolder(out), pytest.raises(UsageError, match=rf"{out}: process {os.getpid()} on .* is writing here"):
        OutputFolder(out)
    run([make_job("a")], dot_picker, out)


def test_when_the_output_folder_is_removed_the_run_ends_and_says_so(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    def remove_in_second(n: int) -> None:
        if n == 1:
            shutil.rmtree(out)

    jobs = [make_job(stem) for stem in ("a", "b", "c")]
    with pytest.raises(UsageError, match=rf"{out}: the output folder was removed, or taken over"):
        run(jobs, acting(dot_picker, remove_in_second), out)


def test_a_folder_in_which_nothing_is_done_is_not_left_behind(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "x" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_have_left_is_removed(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    run([make_job("a")], dot_picker, out)
    left = out / ".gtpick" / "detections" / ".123-0123456789ab.tmp"
    left.touch()
    with OutputFolder(out):
        assert not left.exists()


def test_files_of_others_and_what_a_run_into_a_folder_below_is_writing_stay(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    run([make_job("a")], dot_picker, out / "below")
    names = (".notes.tmp", "deep/.transfer.mrc.tmp", ".123-0123456789ab.tmp.mrc", "below/x/.123-0123456789ab.tmp")
    others = [out / name for name in names]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with OutputFolder(out):
        assert [path for path in others if not path.exists()] == []


def test_a_micrograph_that_changes_while_it_is_read_is_read_again(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "CHANGED_S", 0.0)
    job, reads = make_job("a"), 0

    def changing(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        nonlocal reads
        reads += 1
        found = read_micrograph(path, *sizes_A, **options)
        if reads == 1:
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(opening, "read_micrograph", changing)
    (record,) = run([job], dot_picker, out).micrographs
    assert (reads, record.mtime_ns) == (2, 1)


def test_where_inodes_are_made_up_anew_a_micrograph_has_not_changed_while_it_was_read(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()

    def unstable(path: Path | str) -> Stamp:
        return replace(stamp_of(path), inode=next(numbers))

    monkeypatch.setattr(bookkeeping, "CHANGED_S", 0.0)
    monkeypatch.setattr("gtpick_rt.pipeline.stages.stamp_if_there", unstable)
    assert [record.stem for record in run([make_job("a")], dot_picker, out).micrographs] == ["a"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("times", [2, 4])
def test_a_file_system_that_fails_for_a_while_costs_no_micrograph(
    times: int,
    number: int,
    dot_picker: Picker,
    make_job: Callable[[str], Job],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_TRIES_S", (0.0, 0.0))
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.0)
    faults = [number] * times

    def failing(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        if path.stem == "a" and faults:
            raise OSError(faults.pop(), "away", str(path))
        return read_micrograph(path, *sizes_A, **options)

    monkeypatch.setattr(opening, "read_micrograph", failing)
    found = run([make_job("a"), make_job("b")], dot_picker, out)
    assert {record.stem for record in found.micrographs} == {"a", "b"}
    assert not faults


def test_a_file_system_that_keeps_failing_is_a_failure_in_the_end(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_TRIES_S", (0.0, 0.0))
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.0)

    def failing(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(opening, "read_micrograph", failing)
    (failure,) = run([make_job("a")], dot_picker, out).failed
    assert "Input/output error" in failure.message


def test_a_micrograph_that_hangs_in_reading_is_set_aside(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()

    def hanging(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        if path.stem == "hangs":
            hold.wait(20)
        return read_micrograph(path, *sizes_A, **options)

    monkeypatch.setattr(opening, "read_micrograph", hanging)
    jobs = [make_job(stem) for stem in ("a", "hangs", "b")]
    found = run(jobs, dot_picker, out, deadline_s=1.0)
    hold.set()
    assert [record.stem for record in found.micrographs] == ["a", "b"]
    assert [(failure.stem, failure.kind) for failure in found.failed] == [("hangs", "HungError")]


def test_inference_that_hangs_ends_the_run_with_what_is_done_committed(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    hold = threading.Event()

    def hang(n: int) -> None:
        if n == 1:
            hold.wait(20)

    with pytest.raises(BackendError, match=r"m1.mrc: inference did not end in 1 s"):
        run([make_job(f"m{n}") for n in range(3)], acting(dot_picker, hang), out, deadline_s=1.0)
    hold.set()
    assert len(listed(out)) == 1


def test_the_log_has_a_line_for_each_micrograph(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    gone = make_job("gone\u2028")
    gone.path.unlink()
    run([make_job("a"), gone], dot_picker, out)
    begun, *lines, _ = log_of(out)
    assert (begun["state"], begun["settings"]["diameter_A"], begun["backend"]) == ("begun", 48.0, "scripted")
    assert [(line["state"], line["stem"]) for line in lines] == [("picked", "a"), ("failed", "gone\u2028")]
    assert [line["backlog"] for line in lines] == [1, 0]
    assert "lag_s" not in lines[0]  # a batch follows nothing
    assert set(lines[0]["stage_seconds"]) == {"read", "preprocess", "infer", "decode", "write"}


@pytest.mark.parametrize("name", ["a\nb", os.fsdecode(b"a\xffb")])
def test_an_output_folder_that_no_star_file_can_name_is_refused(
    name: str, dot_picker: Picker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"the name of the output folder .*choose another --out") as raised:
        run([], dot_picker, tmp_path / name)
    assert str(raised.value).isprintable()
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UsageError, match="the name of the output folder"):
        run([], dot_picker, Path("out"))


def test_what_is_odd_about_a_micrograph_is_in_its_record(
    dot_picker: Picker, dots: MakeDots, save_mrc: SaveMrc, make_job: Callable[[str], Job], out: Path, tmp_path: Path
) -> None:
    specks = dots(PLACES, (180, 260)).data
    specks[5, 5] = np.nan
    path = save_mrc(tmp_path / "specks.mrc", specks)
    flat = save_mrc(tmp_path / "flat.mrc", np.full((180, 260), 3, np.float32))
    jobs = [Job(p, PurePosixPath(p.stem), p.name, 0.5) for p in (path, flat)]
    run([*jobs, replace(make_job("coarse"), pixel_size_A=1.0)], dot_picker, out)
    records = json.loads((out / "summary.json").read_text())["micrographs"]
    assert [record["warnings"] for record in records] == [
        ["1 NaN or infinite pixel replaced by the median"],
        ["the image is blank: nothing to pick"],
        ["using 1 Å per pixel; the header says 0.5"],
    ]


def test_picks_are_committed_though_their_overlay_fails(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(stages, "draw_overlay", fail)
    summary = run([make_job("a")], dot_picker, out, overlays=True)
    assert summary.micrographs[0].warnings[1:] == ["no picture: no reason is given"]
    assert len(coordinates(out / "a_autopick.star")) == 3


def test_picks_are_committed_though_their_overlay_cannot_be_written(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    (out / "overlays").mkdir(parents=True)
    (out / "overlays" / "a.png").mkdir()
    summary = run([make_job("a")], dot_picker, out, overlays=True)
    assert summary.micrographs[0].warnings[1:] == [
        f"no picture: {out / 'overlays' / 'a.png'}: cannot be written (Is a directory)"
    ]


def test_an_error_without_words_is_told_in_ours(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    def fail(n: int) -> None:
        raise MemoryError

    (failure,) = run([make_job("a")], acting(dot_picker, fail), out).failed
    assert failure.message.endswith("a.mrc: not enough memory")
    assert failure.kind == "MicrographError"


def test_what_failed_before_the_run_is_in_its_summary(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    unlisted = Failure(stem="x", path="in/x", kind="UnreadableError", message="in/x: the folder cannot be listed")
    assert run([make_job("a")], dot_picker, out, failed=[unlisted]).failed == [unlisted]
    assert json.loads((out / "summary.json").read_text())["failed"][0]["path"] == "in/x"


def test_zero_picks_is_a_result(
    dot_picker: Picker, save_mrc: SaveMrc, dots: MakeDots, out: Path, tmp_path: Path
) -> None:
    empty = save_mrc(tmp_path / "empty.mrc", dots(np.zeros((0, 2), np.float32), (180, 260)).data)
    flat = save_mrc(tmp_path / "flat.mrc", np.full((180, 260), 3, np.float32))
    summary = run([Job(p, PurePosixPath(p.stem), p.name, 1.0) for p in (empty, flat)], dot_picker, out, overlays=True)
    assert [record.picks for record in summary.micrographs] == [0, 0]
    for stem in ("empty", "flat"):
        assert "_rlnCoordinateX" in (out / f"{stem}_autopick.star").read_text()
        assert coordinates(out / f"{stem}_autopick.star").size == 0


def test_the_threshold_separates_picks_from_kept_detections(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    summary = run([make_job("a")], dot_picker, out, threshold=0.95)
    assert (summary.micrographs[0].picks, summary.micrographs[0].detections) == (0, 3)
    assert coordinates(out / "a_autopick.star").size == 0
    assert len(load_detections(out, PurePosixPath("a"))) == 3


@pytest.mark.parametrize("threshold", [0.01, 1.5])
def test_a_threshold_out_of_range_is_refused(threshold: float, dot_picker: Picker, out: Path) -> None:
    with pytest.raises(UsageError, match=r"test-model keeps scores from 0.05 to 1"):
        run([], dot_picker, out, threshold)


def test_an_output_folder_that_cannot_be_made_is_refused(dot_picker: Picker, out: Path) -> None:
    out.write_text("in the way")
    with pytest.raises(UsageError, match=r"output folder cannot be made.*--out"):
        run([], dot_picker, out)


def test_overlays_mirror_the_stems(dot_picker: Picker, make_job: Callable[[str], Job], out: Path) -> None:
    run([make_job("sub/a.b")], dot_picker, out, overlays=True)
    with Image.open(out / "overlays" / "sub" / "a.b.png") as picture:
        assert picture.size == (260, 180)


def test_a_picture_of_an_earlier_run_does_not_stay(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    job = make_job("a")
    run([job], dot_picker, out, overlays=True)
    run([job], dot_picker, out, force=True)
    assert not (out / "overlays" / "a.png").exists()


def test_stopping_finishes_the_micrograph_in_inference_and_begins_no_other(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    stop = threading.Event()

    def stop_in_second(n: int) -> None:
        if n == 1:
            stop.set()

    jobs = [make_job(f"m{n}") for n in range(6)]
    summary = run(jobs, acting(dot_picker, stop_in_second), out, stop=stop)
    assert [record.stem for record in summary.micrographs] == ["m0", "m1"]
    assert json.loads((out / "summary.json").read_text())["totals"]["micrographs"] == 2
    assert sorted(p.name for p in out.glob("m*")) == ["m0_autopick.star", "m1_autopick.star"]


@pytest.mark.parametrize("ended_by", ["its end", "stop", "an error"])
def test_the_log_tells_at_the_end_of_a_run_what_it_has_come_to(
    ended_by: str, dot_picker: Picker, make_job: Callable[[str], Job], out: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def end_after_second(n: int) -> None:
        if n == 1 and ended_by == "stop":
            stop.set()
        if n == 2 and ended_by == "an error":
            raise BackendError("the end")

    run([make_job("before")], dot_picker, out)
    junk = Job(tmp_path / "junk.mrc", PurePosixPath("junk"), "junk.mrc", 1.0)
    jobs = [junk, *(make_job(f"m{n}") for n in range(4 if ended_by == "its end" else 6))]
    with pytest.raises(BackendError) if ended_by == "an error" else nullcontext():
        run(jobs, acting(dot_picker, end_after_second), out, stop=stop)
    log = log_of(out)
    assert [entry["state"] for entry in log].count("ended") == 2
    picked = [entry["picks"] for entry in log if entry["state"] == "picked"][1:]
    assert len(picked) == (4 if ended_by == "its end" else 2)
    told = log[-1]
    assert (told["picked"], told["failed"], told["picks"]) == (len(picked), 1, sum(picked))
    assert 0 < told["seconds"] < 600
    assert (told["backlog"] == 0) == (ended_by == "its end")


@pytest.mark.parametrize("error", [KeyboardInterrupt, BackendError])
def test_an_error_that_ends_the_run_leaves_what_is_done_committed_and_listed(
    error: type[BaseException], dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    def fail_on_third(n: int) -> None:
        if n == 2:
            raise error("the end")

    jobs, before = [make_job(f"m{n}") for n in range(6)], threading.enumerate()
    with pytest.raises(error, match="the end"):
        run(jobs, acting(dot_picker, fail_on_third), out)
    assert sorted(p.name for p in out.glob("m*")) == ["m0_autopick.star", "m1_autopick.star"]
    assert json.loads((out / "summary.json").read_text())["totals"]["micrographs"] == 2
    assert "m1" in (out / "autopick.star").read_text()
    ours = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in ours if thread.name.startswith("gtpick")]


def test_only_a_few_micrographs_are_read_ahead(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    most_ahead = 0

    def counting(path: Path, *sizes_A: Any, **options: Any) -> Micrograph:
        reads.append(path)
        return read_micrograph(path, *sizes_A, **options)

    def compare(n: int) -> None:
        nonlocal most_ahead
        most_ahead = max(most_ahead, len(reads) - n)

    monkeypatch.setattr(opening, "read_micrograph", counting)
    summary = run([make_job(f"m{n}") for n in range(12)], acting(dot_picker, compare), out)
    assert len(summary.micrographs) == len(reads) == 12
    assert most_ahead <= 4


def test_failures_are_told_apart_from_picked_micrographs(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    gone = make_job("gone")
    gone.path.unlink()
    told: list[Record] = []
    run([make_job("a"), gone], dot_picker, out, listeners=Listeners(done=told.append))
    assert [isinstance(record, Failure) for record in told] == [False, True]


class Gathered:
    """A picker whose network waits in its first call until so many micrographs are read; how many
    it was shown each.
    """

    def __init__(self, picker: Picker, monkeypatch: pytest.MonkeyPatch, reads: int, on_cpu: bool = True) -> None:
        monkeypatch.setattr(inferring, "_TOGETHER", 64)
        backend = picker.backend
        assert isinstance(backend, ScriptedBackend)
        self.shown: list[int] = []
        self._script, self._read, self._reads = backend.script, threading.Semaphore(0), reads
        really = opening.read_micrograph

        def reading(*arguments: Any, **options: Any) -> Micrograph:
            micrograph = really(*arguments, **options)
            self._read.release()
            return micrograph

        monkeypatch.setattr(opening, "read_micrograph", reading)
        self.picker = Picker(replace(backend, script=self._infer, on_cpu=on_cpu), picker.spec, picker.diameter_A)

    def _infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not self.shown:
            for _ in range(self._reads):
                assert self._read.acquire(timeout=20)
            time.sleep(0.2)  # what was read last is on its way
        self.shown.append(len(tiles))
        return self._script(tiles)


def test_micrographs_that_wait_are_shown_to_the_network_together_and_picked_as_alone(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make_job(stem) for stem in ("a", "b", "c", "d")]
    alone = run(jobs, dot_picker, tmp_path / "alone")
    gathered = Gathered(dot_picker, monkeypatch, reads=3)
    together = run(jobs, gathered.picker, out)
    assert max(gathered.shown) > 1
    assert sum(gathered.shown) == 4
    for job in jobs:
        name = f"{job.stem}_autopick.star"
        np.testing.assert_array_equal(coordinates(out / name), coordinates(tmp_path / "alone" / name))
    assert [record.stem for record in together.micrographs] == [record.stem for record in alone.micrographs]
    assert all(record.seconds > 0 for record in together.micrographs)


def test_one_that_cannot_be_inferred_does_not_take_those_beside_it_along(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Gathered(dot_picker, monkeypatch, reads=3)
    backend = gathered.picker.backend
    assert isinstance(backend, ScriptedBackend)

    def fail_on_bright(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        answer = backend.script(tiles)
        if (tiles.max(axis=(1, 2, 3)) < 50).any():
            raise RuntimeError("no dots, no answer")
        return answer

    picker = Picker(replace(backend, script=fail_on_bright), dot_picker.spec, dot_picker.diameter_A)
    jobs = [make_job("a"), make_job("b"), make_job("unlucky"), make_job("c")]
    noise = np.random.default_rng(1).normal(1000, 1, (180, 260)).astype(np.float32)
    with mrcfile.new(jobs[2].path, noise, overwrite=True) as mrc:
        mrc.voxel_size = 0.5
    found = run(jobs, picker, out)
    assert [failure.stem for failure in found.failed] == ["unlucky"]
    assert found.failed[0].message.endswith("unlucky.mrc: no dots, no answer")
    assert [record.stem for record in found.micrographs] == ["a", "b", "c"]


def test_a_gpu_is_served_by_several_readers_and_the_order_stays(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 3)
    gathered = Gathered(dot_picker, monkeypatch, reads=0, on_cpu=False)
    together = threading.Barrier(3)
    really = opening.read_micrograph
    seen = iter(range(1000))

    def reading(path: Path, *arguments: Any, **options: Any) -> Micrograph:
        micrograph = really(path, *arguments, **options)
        if next(seen) < 3:
            together.wait(timeout=20)  # fails unless three read at the same time
        if path.stem == "m0":
            time.sleep(0.3)
        return micrograph

    monkeypatch.setattr(opening, "read_micrograph", reading)
    jobs = [make_job(f"m{number}") for number in range(9)]
    absent = replace(jobs[0], path=jobs[0].path.with_name("absent.mrc"), stem=PurePosixPath("absent"))
    told: list[Record] = []
    run([*jobs[:4], absent, *jobs[4:]], gathered.picker, out, listeners=Listeners(done=told.append))
    assert [record.stem for record in told] == ["m0", "m1", "m2", "m3", "absent", "m4", "m5", "m6", "m7", "m8"]


@pytest.fixture
def three_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as with so many cores."""
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 12)


@pytest.mark.usefixtures("three_writers")
def test_several_threads_commit_at_the_same_time_and_the_order_stays(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, really, begun = threading.Barrier(3), PickFiles.commit, iter(range(1000))

    def commit(files: PickFiles, record: MicrographRecord, detections: Picks) -> None:
        if next(begun) < 3:
            together.wait(timeout=20)  # fails unless three write at the same time
        if record.stem == "m0":
            time.sleep(0.3)
        really(files, record, detections)

    monkeypatch.setattr(PickFiles, "commit", commit)
    told: list[Record] = []
    jobs = [make_job(f"m{number}") for number in range(9)]
    picker = on_gpu(dot_picker)
    found = run(jobs, picker, out, listeners=Listeners(done=told.append))
    stems = [str(job.stem) for job in jobs]
    assert [record.stem for record in told] == [record.stem for record in found.micrographs] == stems
    assert [entry["stem"] for entry in log_of(out) if entry["state"] == "picked"] == stems


@pytest.mark.usefixtures("three_writers")
def test_an_error_in_one_of_several_writers_ends_the_run_and_what_is_committed_is_listed(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = PickFiles.commit

    def commit(files: PickFiles, record: MicrographRecord, detections: Picks) -> None:
        if record.stem == "m3":
            raise UsageError("the folder is gone")
        really(files, record, detections)

    monkeypatch.setattr(PickFiles, "commit", commit)
    with pytest.raises(UsageError, match="the folder is gone"):
        run([make_job(f"m{number}") for number in range(30)], on_gpu(dot_picker), out)
    written = {path.name.removesuffix("_autopick.star") for path in out.glob("m*.star")}
    records = json.loads((out / "summary.json").read_text())["micrographs"]
    assert written == {record["stem"] for record in records}
    assert {"m0", "m1", "m2"} <= written < {f"m{number}" for number in range(30)} - {"m3"}


@pytest.mark.usefixtures("three_writers")
def test_that_the_disk_is_full_is_told_once_by_several_writers(
    dot_picker: Picker,
    make_job: Callable[[str], Job],
    out: Path,
    fail_to_write: Callable[[str, int], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.01)
    (out / "full").mkdir(parents=True)
    mend, told, really, tried = (
        fail_to_write("/full/", errno.ENOSPC),
        list[str](),
        PickFiles.show,
        threading.Semaphore(0),
    )

    def show(files: PickFiles, stem: PurePosixPath, preview: bytes) -> None:
        tried.release()
        really(files, stem, preview)

    def free_space(text: str) -> None:
        told.append(text)
        if len(told) == 1:
            for _ in range(3):
                assert tried.acquire(timeout=20)
            time.sleep(0.2)
            mend()

    monkeypatch.setattr(PickFiles, "show", show)

    jobs = [make_job(f"full/m{number}") for number in range(9)]
    found = run(jobs, on_gpu(dot_picker), out, listeners=Listeners(notice=free_space))
    assert len(told) == 1
    assert [record.stem for record in found.micrographs] == [str(job.stem) for job in jobs]


def test_a_gpu_is_shown_the_next_before_the_answers_to_the_last_are_awaited(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path
) -> None:
    backend = Ahead(dot_picker.backend.infer)
    picker = Picker(backend, dot_picker.spec, dot_picker.diameter_A)
    found = run([make_job(f"m{number}") for number in range(6)], picker, out)
    assert [record.picks for record in found.micrographs] == 6 * [3]
    assert backend.most == 2


class Ahead(AtOnce):
    """A device that notes how much it was given before it was asked for answers."""

    name, on_cpu = "ahead", False

    def __init__(self, script: Script) -> None:
        self.infer = script  # type: ignore[method-assign]
        self.given = self.most = 0

    def submit(self, tiles: Tiles) -> Tiles:
        self.given += 1
        self.most = max(self.most, self.given)
        time.sleep(0.2)  # the next is read meanwhile
        return tiles

    def collect(self, submitted: Tiles) -> Answers:
        self.given -= 1
        return super().collect(submitted)


def on_gpu(picker: Picker) -> Picker:
    """The same picker, whose backend leaves the processor's cores alone."""
    assert isinstance(picker.backend, ScriptedBackend)
    return Picker(replace(picker.backend, on_cpu=False), picker.spec, picker.diameter_A)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def test_an_error_in_one_of_several_readers_ends_the_run(
    dot_picker: Picker, make_job: Callable[[str], Job], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 3)
    gathered = Gathered(dot_picker, monkeypatch, reads=0, on_cpu=False)

    def refuse(*arguments: Any, **options: Any) -> Micrograph:
        raise UsageError("the set-up is wrong")

    monkeypatch.setattr(opening, "read_micrograph", refuse)
    with pytest.raises(UsageError, match="the set-up is wrong"):
        run([make_job(f"m{number}") for number in range(9)], gathered.picker, out)
