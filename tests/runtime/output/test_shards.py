"""Several runs pick into one folder, each its share: together they leave what one run leaves, and
nothing twice.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import gemmi
import numpy as np
import pytest

from gtpick_rt import Failure, MicrographRecord, Summary, pick
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.sharding import Shard, ShardSource
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import GtpickError, InUseError, UsageError
from gtpick_rt.output import folder as output
from gtpick_rt.output import journal, pick_files, shards
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import list_path, log_path, retry_folder, shards_folder, star_path, summary_path
from gtpick_rt.output.lock import FolderLock
from gtpick_rt.output.retrying import ask_again
from gtpick_rt.output.shards import ShardFolder
from gtpick_rt.output.summary import Settings
from gtpick_rt.picking import fulfilling as picking
from gtpick_rt.picking.request import Listeners, Request
from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)
STEMS = [f"m{number:02}" for number in range(9)]
BROKEN = ("m02", "m06")
"""Of different shards, whether there are two or three."""
FORMATS = ("box", "cs", "topaz")
PickInto = Callable[..., Summary]


@pytest.fixture
def folder(tmp_path: Path, dots: Callable[..., Micrograph], save_mrc: Callable[[Path, FloatArray], Path]) -> Path:
    """Nine micrographs, two of which cannot be read."""
    for number, stem in enumerate(STEMS):
        path = save_mrc(tmp_path / "in" / f"{stem}.mrc", dots(PLACES, (128, 192), seed=number).data)
        if stem in BROKEN:
            path.write_bytes(path.read_bytes()[:3000])
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def pick_into(folder: Path, out: Path, tiny_model: Path) -> PickInto:
    """A function that picks the folder, or a shard of it."""

    def run(shard: str | None = None, **options: Any) -> Summary:
        common = {"diameter_A": 24, "model": str(tiny_model), "backend": "cpu"}
        return pick(folder, out, shard=shard, **(common | options))

    return run


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each micrograph was committed in this process."""
    really, count = pick_files.commit_picks, Counter[str]()

    def commit(out: Path, stem: Any, *rest: Any) -> Path:
        count[str(stem)] += 1
        return really(out, stem, *rest)

    monkeypatch.setattr(pick_files, "commit_picks", commit)
    return count


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all at the same time, and give what came of each: a result or an error."""
    outcomes: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            outcomes[number] = calls[number]()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def good() -> list[str]:
    return [stem for stem in STEMS if stem not in BROKEN]


def marks(out: Path) -> dict[str, tuple[int, int]]:
    """What shows whether a STAR file was written again."""
    found = {path.name.removesuffix("_autopick.star"): path.stat() for path in out.glob("m*_autopick.star")}
    return {stem: (stat.st_ino, stat.st_mtime_ns) for stem, stat in found.items()}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def contents(out: Path) -> dict[str, Any]:
    """All that an output folder tells, without times, and without the order, which is that of
    picking.
    """
    block = gemmi.cif.read_file(str(list_path(out))).sole_block()
    summary = json.loads(summary_path(out).read_text())
    for name in ("command", "written", "seconds", "stage_seconds", "picked", "workers"):
        del summary[name]
    del summary["parameters"]["surveyed_micrographs"]  # who comes later need not look
    for record in summary["micrographs"]:
        del record["seconds"]
    for name in ("micrographs", "failed"):
        summary[name].sort(key=lambda record: record["stem"])
    logged = Counter((line["state"], line["stem"]) for line in lines(out) if line["state"] in ("picked", "failed"))
    return {
        "list": sorted(tuple(row) for row in block.find(["_rlnMicrographName", "_rlnMicrographCoordinates"])),
        "summary": summary,
        "log": logged,
        "box": {path.name: path.read_bytes() for path in (out / "box").iterdir()},
        "cs": sorted(map(str, np.load(out / "picks.cs").tolist())),
        "topaz": sorted((out / "picks_topaz.txt").read_text().splitlines()),
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
    }


@pytest.fixture
def reference(pick_into: PickInto, out: Path) -> dict[str, Any]:
    """What one run without shards leaves."""
    pick_into(formats=FORMATS)
    found = contents(out)
    shutil.rmtree(out)
    return found


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_one_after_another_leave_what_one_run_leaves(
    order: Sequence[int], reference: dict[str, Any], pick_into: PickInto, out: Path, committed: Counter[str]
) -> None:
    for number in order:
        summary = pick_into(f"{number}/3", formats=FORMATS)
        held = [stem for stem in STEMS if Shard(number, 3).holds(stem)]
        assert summary.picked == len([stem for stem in held if stem in good()])
        assert summary.totals.failed == len([stem for stem in held if stem in BROKEN])
    assert contents(out) == reference
    assert committed == Counter(good())


@pytest.mark.usefixtures("file_system")
def test_shards_at_the_same_time_leave_what_one_run_leaves(
    reference: dict[str, Any], pick_into: PickInto, out: Path, committed: Counter[str]
) -> None:
    summaries = at_once(*(lambda n=n: pick_into(f"{n}/3", formats=FORMATS) for n in (1, 2, 3)))
    assert sum(summary.picked for summary in summaries) == len(good())
    assert contents(out) == reference
    assert committed == Counter(good())


def test_shards_hold_each_micrograph_once() -> None:
    for of in (1, 2, 7):
        for stem in ("a", "sub/a b", "é", "\udcff"):
            assert [Shard(number, of).holds(stem) for number in range(1, of + 1)].count(True) == 1


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1 / 2", "1/2\n", "¹/2", "0x1/2"]
)
def test_a_shard_that_is_none_is_refused(text: str, pick_into: PickInto, out: Path) -> None:
    with pytest.raises(UsageError, match="give i/n, with i from 1 to n, as in --shard 3/8"):
        pick_into(text)
    assert not out.exists()


def test_a_shard_goes_without_force(pick_into: PickInto) -> None:
    with pytest.raises(UsageError, match="--shard goes without --force"):
        pick_into("1/2", force=True)


def command(folder: Path, out: Path, model: Path, *options: str) -> list[str]:
    program = [sys.executable, "-m", "gtpick_rt", "pick", str(folder), "--out", str(out), "--diameter=24"]
    return [*program, f"--model={model}", "--backend=cpu", *options]


def test_each_process_tells_by_its_exit_code_whether_its_own_share_is_whole(
    folder: Path, out: Path, tiny_model: Path, save_mrc: Callable[[Path, FloatArray], Path], dots: Callable[..., Any]
) -> None:
    for stem in BROKEN:
        if Shard(2, 2).holds(stem):
            save_mrc(folder / "new.mrc", dots(PLACES, (128, 192)).data).replace(folder / f"{stem}.mrc")
    broken = [stem for stem in BROKEN if Shard(1, 2).holds(stem)]
    assert broken
    processes = [
        subprocess.Popen(command(folder, out, tiny_model, f"--shard={n}/2"), stdout=subprocess.PIPE) for n in (1, 2)
    ]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [3, 0]
    summary = json.loads(summary_path(out).read_text())
    assert [failure["stem"] for failure in summary["failed"]] == broken
    assert summary["totals"]["micrographs"] == len(STEMS) - len(broken)
    assert not shards_folder(out).exists()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_LISTING_S", 0.1)
    monkeypatch.setattr(shards, "_PAUSE_S", 0.01)


@pytest.mark.usefixtures("file_system", "_impatient")
def test_whoever_would_write_the_same_or_everything_is_refused_while_shards_are_at_work(out: Path) -> None:
    with ShardFolder(out, Shard(1, 2)) as first, ShardFolder(out, Shard(2, 2)) as second:
        for shard in (Shard(1, 2), Shard(2, 2), Shard(3, 3)):
            with pytest.raises(InUseError, match=rf"process {os.getpid()} on .* is writing here"):
                ShardFolder(out, shard)
        with pytest.raises(InUseError, match="is writing here"):
            OutputFolder(out)
        for each in (first, second):
            with each.writing():
                pass
    with ShardFolder(out, Shard(3, 3)):
        pass
    with OutputFolder(out), pytest.raises(InUseError, match=rf"process {os.getpid()} on .* is writing here"):
        ShardFolder(out, Shard(1, 2))
    OutputFolder(out).close()


@pytest.mark.parametrize("options", [("--shard=1/2",), ("--shard=2/3",), ()])
def test_another_process_is_refused_with_words(
    options: Sequence[str], folder: Path, out: Path, tiny_model: Path
) -> None:
    with ShardFolder(out, Shard(1, 2)), ShardFolder(out, Shard(2, 2)):
        done = subprocess.run(command(folder, out, tiny_model, *options), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "is writing here; wait for it, stop it, or choose another --out" in " ".join(done.stderr.split())
    assert not marks(out)


@pytest.mark.usefixtures("file_system")
def test_a_shard_waits_for_a_run_that_ends_soon(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_PAUSE_S", 0.01)
    whole, began = OutputFolder(out), threading.Event()

    def shard() -> None:
        with ShardFolder(out, Shard(1, 2)) as folder, folder.writing():
            began.set()

    thread = threading.Thread(target=shard)
    thread.start()
    assert not began.wait(0.5)
    whole.close()
    thread.join()
    assert began.is_set()


@pytest.mark.usefixtures("file_system")
def test_a_shard_says_once_whom_it_waits_for_and_may_be_stopped(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_PAUSE_S", 0.01)
    told: list[str] = []
    stop, really = threading.Event(), shards.share_folder
    tries = iter(range(4))

    def share(path: Path) -> FolderLock:
        if next(tries) == 3:
            stop.set()
        return really(path)

    monkeypatch.setattr(shards, "share_folder", share)
    request = Request(inputs=(str(folder),), out=out, shard="1/2")
    with OutputFolder(out), pytest.raises(InUseError, match="is writing here"):
        picking.fulfil(request, Listeners(notice=told.append), stop)
    assert [text.partition(" on ")[0] for text in told] == [f"waiting up to 10 min: {out}: process {os.getpid()}"]


def test_a_signal_ends_a_shard_that_waits(folder: Path, out: Path, tiny_model: Path) -> None:
    with OutputFolder(out):
        shard = subprocess.Popen(
            command(folder, out, tiny_model, "--shard=1/2"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        with shard:
            assert shard.stderr is not None
            assert b"waiting up to 10 min" in shard.stderr.readline()
            shard.send_signal(signal.SIGINT)
            said = shard.stderr.read()
    assert (shard.returncode, said.strip()) == (
        128 + signal.SIGINT,
        b"finishing what is in hand; once more to stop at once",
    )


@pytest.mark.usefixtures("file_system")
def test_shards_that_begin_together_where_another_number_was_killed_do_not_refuse_each_other(out: Path) -> None:
    shards_folder(out).mkdir(parents=True)
    for number in range(1, 4):
        (shards_folder(out) / f"{number}-of-3.lock").write_text("process 999999999 on elsewhere\n")
    barrier = threading.Barrier(4)

    def begin(number: int) -> None:
        barrier.wait()
        with ShardFolder(out, Shard(number, 4)):
            barrier.wait()

    for _ in range(10):
        assert at_once(*(lambda n=n: begin(n) for n in range(1, 5))) == [None] * 4


KILLED = """
import os, signal, sys
from gtpick_rt import pick
left = [int(sys.argv[4])]
def on_done(record):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
pick(sys.argv[1], sys.argv[2], diameter_A=24, model=sys.argv[3], backend="cpu", shard=sys.argv[5], on_done=on_done)
"""


@pytest.fixture
def kill_after(folder: Path, out: Path, tiny_model: Path) -> Callable[[int, str], None]:
    """A function that picks a shard in another process, which is killed after so many
    micrographs.
    """

    def run(count: int, shard: str) -> None:
        arguments = (folder, out, tiny_model, count, shard)
        done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)])
        assert done.returncode == -signal.SIGKILL

    return run


def test_a_killed_shard_goes_on_where_it_was(
    kill_after: Callable[[int, str], None], pick_into: PickInto, reference: dict[str, Any], out: Path
) -> None:
    for shard in ("1/2", "2/2"):
        kill_after(2, shard)
    before = marks(out)
    assert before
    for shard in ("2/2", "1/2"):
        pick_into(shard, formats=FORMATS)
    after = marks(out)
    assert sorted(after) == good()
    assert {stem: after[stem] for stem in before} == before
    found = contents(out)
    assert {name: value for name, value in found.items() if name != "log"} == {
        name: value for name, value in reference.items() if name != "log"
    }
    picked = Counter(line["stem"] for line in lines(out) if line["state"] == "picked")
    assert picked == Counter(good())


def test_the_part_of_a_shard_that_never_comes_back_is_picked_by_a_run_without_shards(
    kill_after: Callable[[int, str], None], pick_into: PickInto, reference: dict[str, Any], out: Path
) -> None:
    kill_after(2, "1/2")
    pick_into("2/2", formats=FORMATS)
    assert not shards_folder(out).exists()
    before = marks(out)
    assert set(before) < set(good())
    summary = pick_into(formats=FORMATS)
    after = marks(out)
    assert sorted(after) == good()
    assert {stem: after[stem] for stem in before} == before
    assert summary.picked == len(good()) - len(before)
    assert contents(out)["summary"] == reference["summary"]


def test_what_all_killed_shards_have_logged_is_taken_over_in_the_order_of_time(
    kill_after: Callable[[int, str], None], pick_into: PickInto, out: Path
) -> None:
    for shard in ("1/2", "2/2"):
        kill_after(2, shard)
    logs = sorted(shards_folder(out).glob("*.jsonl"))
    assert len(logs) == 2
    with logs[0].open("a") as log:
        log.write('{"time": "2026-')
    pick_into()
    assert not shards_folder(out).exists()
    told = [json.loads(line) for line in log_path(out).read_text().splitlines() if line.endswith("}")]
    assert [line["time"] for line in told] == sorted(line["time"] for line in told)
    assert Counter(line["stem"] for line in told if line["state"] == "picked") == Counter(good())


def test_settings_that_differ_from_what_shards_have_begun_with_are_refused(
    kill_after: Callable[[int, str], None], pick_into: PickInto, out: Path
) -> None:
    kill_after(1, "1/2")
    before = marks(out)
    with pytest.raises(
        UsageError, match=r"begun otherwise \(--threshold 0.4, now 0.6\); give all shards the same options"
    ):
        pick_into("2/2", threshold=0.6)
    with pytest.raises(UsageError, match=r"begun otherwise \(--diameter 24.*, now 26.*\)"):
        pick_into("1/2", diameter_A=26)
    assert marks(out) == before


def test_picks_of_another_program_are_refused(pick_into: PickInto, out: Path) -> None:
    out.mkdir()
    (out / "foreign_autopick.star").write_text("data_\nloop_\n_rlnCoordinateX #1\n")
    with pytest.raises(UsageError, match="picks of another program or version lie where these would go"):
        pick_into("1/2")
    assert [path.name for path in out.glob("*")] == ["foreign_autopick.star"]


def test_settings_that_differ_from_those_of_an_earlier_run_are_refused(
    pick_into: PickInto, out: Path, reference: dict[str, Any]
) -> None:
    pick_into(formats=FORMATS)
    before = marks(out)
    with pytest.raises(UsageError, match=r"begun otherwise \(--threshold 0.4, now 0.6\)"):
        pick_into("1/2", threshold=0.6)
    assert marks(out) == before
    assert contents(out)["summary"] == reference["summary"]
    pick_into("1/2")
    assert marks(out) == before


def test_diameters_that_two_shards_measure_at_the_same_time_become_one(
    pick_into: PickInto, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, measured, both = picking.open_picker, iter((24.0, 26.0)), threading.Barrier(2)

    def open_picker(diameter_A: float | None = None, **options: Any) -> Picker:
        if diameter_A is None:
            diameter_A, options = next(measured), options | {"contrast": "dark"}
            both.wait()
        return really(diameter_A, **{name: each for name, each in options.items() if name != "micrographs"})

    monkeypatch.setattr(picking, "open_picker", open_picker)
    outcomes = at_once(*(lambda n=n: pick_into(f"{n}/2", diameter_A=None) for n in (1, 2)))
    assert sum(summary.picked for summary in outcomes) == len(good())
    assert len({summary.parameters["diameter_A"] for summary in outcomes}) == 1
    with OutputFolder(out) as whole:
        assert whole.previous is not None
        assert sorted(whole.finished) == good()


def test_a_shard_that_begins_while_the_last_of_an_earlier_batch_lists_waits(
    pick_into: PickInto, out: Path, committed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_PAUSE_S", 0.01)
    really, listing, go_on = shards.convert, threading.Event(), threading.Event()

    def convert(whole: OutputFolder) -> list[Failure]:
        listing.set()
        assert go_on.wait(60)
        return really(whole)

    monkeypatch.setattr(shards, "convert", convert)
    waited = []

    def later() -> Summary:
        assert listing.wait(60)
        timer = threading.Timer(0.5, lambda: (waited.append(marks(out)), go_on.set()))
        timer.start()
        return pick_into("2/2")

    first, second = at_once(lambda: pick_into("1/2"), later)
    assert sorted(waited[0]) == [stem for stem in good() if Shard(1, 2).holds(stem)]
    assert first.picked + second.picked == len(good())
    assert committed == Counter(good())


def test_a_shard_whose_lock_another_run_has_cleared_away_takes_it_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, times = shards.lock_folder, iter(range(10))

    def lock(path: Path) -> Any:
        taken = really(path)
        if next(times) == 0:
            path.unlink()
        return taken

    monkeypatch.setattr(shards, "lock_folder", lock)
    with ShardFolder(out, Shard(1, 2)) as folder, folder.writing():
        assert next(times) == 2


@pytest.mark.usefixtures("file_system")
def test_shards_that_were_refused_leave_nothing_nor_decide_for_others(
    pick_into: PickInto, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ({"model": "nowhere"}, {"threshold": 0.001}):
        with pytest.raises(GtpickError):
            pick_into("1/2", **options)
        assert not out.exists()
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="port"):
        patch.setattr(picking, "_run", lambda *_: (_ for _ in ()).throw(UsageError("the port is in use")))
        pick_into("1/2", threshold=0.3)
    assert not out.exists()
    assert pick_into("1/1", threshold=0.5).parameters["threshold"] == 0.5


def test_a_shard_that_was_refused_while_another_one_ended_lists_what_that_has_picked(
    pick_into: PickInto, out: Path
) -> None:
    with ShardFolder(out, Shard(2, 2)):
        pick_into("1/2")
        assert shards_folder(out).exists()
    summary = json.loads(summary_path(out).read_text())
    assert summary["totals"]["micrographs"] == len([stem for stem in good() if Shard(1, 2).holds(stem)])
    assert not shards_folder(out).exists()


def test_a_shard_does_not_make_anew_a_folder_that_was_removed(pick_into: PickInto, out: Path) -> None:
    def on_done(record: MicrographRecord | Failure) -> None:
        if out.exists():
            out.rename(out.with_name("elsewhere"))

    with pytest.raises(UsageError, match="the output folder was removed"):
        pick_into("1/1", on_done=on_done)
    assert not out.exists()


def test_a_format_that_comes_later_is_written_once_for_all(
    pick_into: PickInto, out: Path, reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pick_into()
    really, written = pick_files.write_atomic, Counter[str]()

    def write(path: Path, data: bytes) -> None:
        written[path.name] += path.suffix == ".box"
        really(path, data)

    monkeypatch.setattr(pick_files, "write_atomic", write)
    at_once(*(lambda n=n: pick_into(f"{n}/2", formats=FORMATS) for n in (1, 2)))
    assert written == Counter(f"{stem}.box" for stem in good())
    assert contents(out)["box"] == reference["box"]
    assert contents(out)["cs"] == reference["cs"]


def test_what_cannot_be_read_for_another_format_is_told_by_the_last(pick_into: PickInto, out: Path) -> None:
    pick_into()
    shutil.rmtree(out / ".gtpick" / "detections")
    pick_into("1/1", formats=["box"])
    failed = json.loads(summary_path(out).read_text())["failed"]
    assert {failure["stem"] for failure in failed} == set(STEMS)


@pytest.fixture
def settings(pick_into: PickInto, out: Path) -> Settings:
    """Those of the picks of a run that has ended."""
    pick_into()
    with OutputFolder(out) as whole:
        assert whole.previous is not None
        return whole.previous


@pytest.mark.parametrize("number", [1, 2])
def test_lists_are_not_written_for_each_micrograph(
    number: int, settings: Settings, pick_into: PickInto, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_LISTS_EVERY_S", 1000.0)
    summary = replace(pick_into(), workers=[])
    with ShardFolder(out, Shard(number, 2)) as folder:
        folder.begin(settings)
        folder._lists_due = 0.0
        folder.write_lists(summary)
        assert not folder.lists_due


@pytest.mark.usefixtures("settings")
def test_a_shard_takes_over_the_index_and_reads_no_star_file_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "read_record", lambda path: pytest.fail(f"{path} is read"))
    with ShardFolder(out, Shard(1, 2)) as folder:
        assert sorted(folder.finished) == good()


def test_the_first_shard_keeps_the_lists_current_with_what_all_have_picked(
    pick_into: PickInto, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_LISTS_EVERY_S", 0.0)
    second_is_done, seen = threading.Event(), []

    def on_done(record: MicrographRecord | Failure) -> None:
        assert second_is_done.wait(60)
        if summary_path(out).exists():
            seen.append(json.loads(summary_path(out).read_text()))

    def first() -> Summary:
        return pick_into("1/2", on_done=on_done)

    def second() -> None:
        pick_into("2/2")
        second_is_done.set()

    at_once(first, second)
    theirs = [stem for stem in good() if Shard(2, 2).holds(stem)]
    assert set(theirs) <= {record["stem"] for record in seen[-1]["micrographs"]}
    assert [worker["name"] for worker in seen[-1]["workers"]] == ["shard 1/2", "shard 2/2"]


@dataclass
class _Given:
    """A source that gives what it was made with."""

    arrivals: list[Job | Failure | None]
    live = True

    def __post_init__(self) -> None:
        self.through: list[Job] = []
        self.again, self.retry, self.done = print, print, self.through.append

    @property
    def backlog(self) -> int:
        return sum(isinstance(each, Job) for each in self.arrivals) - len(self.through)

    def __iter__(self) -> Iterator[Job | Failure | None]:
        yield from self.arrivals


def test_a_share_is_done_with_what_others_pick_and_does_not_count_it_as_waiting() -> None:
    jobs = [Job(Path(f"{n}.mrc"), PurePosixPath(f"m{n}"), f"{n}.mrc", 1.0) for n in range(400)]
    failures = [Failure(stem=f"f{n}", path="", kind="FormatError", message="") for n in range(9)]
    given = [_Given([*jobs, None, *failures]) for _ in range(4)]
    shares = [ShardSource(source, Shard(number, 4).holds, 4) for number, source in enumerate(given, 1)]
    assert [share.backlog for share in shares] == [100] * 4
    brought = [list(share) for share in shares]
    assert all(None in each for each in brought)
    assert sorted(each.stem for part in brought for each in part if isinstance(each, Failure)) == [
        f"f{n}" for n in range(9)
    ]
    assert sorted(each.path for part in brought for each in part if isinstance(each, Job)) == sorted(
        job.path for job in jobs
    )
    for part, source in zip(brought, given, strict=True):
        assert not set(source.through) & {each for each in part if isinstance(each, Job)}
        assert len(source.through) + sum(isinstance(each, Job) for each in part) == 400


def test_shards_share_what_arrives_and_each_takes_the_requests_for_its_own(
    folder: Path,
    pick_into: PickInto,
    out: Path,
    committed: Counter[str],
    save_mrc: Callable[[Path, FloatArray], Path],
    dots: Callable[..., Micrograph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gtpick_rt.output.retrying._POLL_S", 0.0)
    image = dots(PLACES, (128, 192)).data
    for stem in BROKEN:
        save_mrc(folder / "new.mrc", np.full_like(image, np.nan)).replace(folder / f"{stem}.mrc")
    stop, records = threading.Event(), list[MicrographRecord | Failure]()

    def on_done(record: MicrographRecord | Failure) -> None:
        records.append(record)
        path = folder / f"{record.stem}.mrc"
        if isinstance(record, Failure):
            before = path.stat()
            with path.open("r+b") as file:  # so that nothing shows that it has changed
                file.seek(1024)
                file.write(image.tobytes())
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            ask_again(out, record.stem)
        if len(records) == len(STEMS):
            save_mrc(folder / "late0.mrc", image)
            save_mrc(folder / "late1.mrc", image)

    def watch(number: int) -> Summary:
        return pick_into(f"{number}/2", watch=True, settle_s=0.05, stop=stop, on_done=on_done)

    def end() -> None:
        until = time.monotonic() + 100
        while len(committed) < len(STEMS) + 2 and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()

    first, second, _ = at_once(lambda: watch(1), lambda: watch(2), end)
    assert committed == Counter([*STEMS, "late0", "late1"])
    assert first.picked + second.picked == len(committed)
    assert first.totals.failed == second.totals.failed == 0
    assert not list(retry_folder(out).iterdir())
    assert all(star_path(out, stem).exists() for stem in map(Path, committed))


def test_a_micrograph_that_has_changed_is_listed_as_a_shard_has_picked_it(
    folder: Path, out: Path, pick_into: PickInto
) -> None:
    pick_into()
    changed_ns = 10**18
    for stem in ("m00", "m01"):
        os.utime(folder / f"{stem}.mrc", ns=(changed_ns, changed_ns))
    for shard in ("1/2", "2/2"):
        pick_into(shard)
    records = {record["stem"]: record for record in json.loads(summary_path(out).read_text())["micrographs"]}
    assert {stem for stem, record in records.items() if record["mtime_ns"] == changed_ns} == {"m00", "m01"}
    assert pick_into().picked == 0


def test_of_a_killed_array_of_another_number_only_the_log_outlives_what_was_picked_since(
    folder: Path, out: Path, pick_into: PickInto, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(shards, "_list_all", lambda *_: None)
        for shard in ("1/2", "2/2"):
            pick_into(shard)
    changed_ns = 10**18
    for stem in good():
        os.utime(folder / f"{stem}.mrc", ns=(changed_ns, changed_ns))
    for stem in BROKEN:
        (folder / f"{stem}.mrc").unlink()
    for shard in ("1/3", "2/3", "3/3"):
        pick_into(shard)
    summary = json.loads(summary_path(out).read_text())
    assert {record["mtime_ns"] for record in summary["micrographs"]} == {changed_ns}
    assert summary["failed"] == []
    assert [worker["name"] for worker in summary["workers"]] == ["shard 3/3"]
    assert Counter(line["stem"] for line in lines(out) if line["state"] == "picked") == dict.fromkeys(good(), 2)


def test_what_only_a_killed_array_of_another_number_has_picked_or_failed_is_listed(
    folder: Path, out: Path, pick_into: PickInto, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(shards, "_list_all", lambda *_: None)
        pick_into("1/1")
    pick_into("1/2")
    summary = json.loads(summary_path(out).read_text())
    assert sorted(record["stem"] for record in summary["micrographs"]) == good()
    assert sorted(failure["stem"] for failure in summary["failed"]) == list(BROKEN)
