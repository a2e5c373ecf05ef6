"""Workers pick as one process does, whatever becomes of them; what they die of is set aside."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.cluster import driver
from gtpick_rt.cluster import pool as pool_module
from gtpick_rt.cluster.pool import WorkerPool
from gtpick_rt.errors import BackendError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.pipeline import bookkeeping
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.records import Failure, MicrographRecord, Record

MakeSite = Callable[[int], Any]
Arrange = Callable[[str, str], Path]


def all_but_record(star: Path) -> list[str]:
    return [line for line in star.read_text().splitlines() if not line.startswith("# gtpick")]


def test_workers_pick_what_one_process_picks(pool: WorkerPool, site: MakeSite, tmp_path: Path) -> None:
    here = site(12)
    told: list[Record] = []
    summary = here.run(pool, listeners=Listeners(done=told.append), formats=["box"], overlays=True)
    picker = open_picker(24.0, model=str(here.model), backend="cpu")
    with OutputFolder(tmp_path / "alone") as output:
        jobs = Listed(find_jobs([str(here.images)]).jobs)
        pipeline.run(jobs, picker, output, settings_of(picker, 0.9), formats=["box"], overlays=True)
    assert len(here.picked()) == len(told) == summary.picked == summary.totals.micrographs == 12
    for path in (tmp_path / "alone").rglob("*"):
        mine = here.out / path.relative_to(tmp_path / "alone")
        if path.suffix in (".png", ".jpg", ".box"):
            assert mine.read_bytes() == path.read_bytes()
        elif path.name.endswith("_autopick.star"):
            assert all_but_record(mine) == all_but_record(path)
    assert {worker.backend for worker in summary.workers} == {"onnxruntime-cpu"} == {summary.backend}
    assert sum(worker.micrographs for worker in summary.workers) == 12
    assert summary.retries == 0
    assert set(summary.stage_seconds) == {"read", "preprocess", "infer", "decode", "write"}
    assert (here.out / "autopick.star").read_text().count("_autopick.star") == 12


def test_a_second_run_picks_nothing_again(pool: WorkerPool, site: MakeSite, misfortune: Arrange) -> None:
    here = site(6)
    here.run(pool)
    calls = misfortune("none", "nothing")
    (here.images / "m003.mrc").unlink()
    again = here.run(pool)
    assert (again.picked, again.totals.micrographs) == (0, 6)
    assert not calls.exists()


def test_bad_micrographs_are_named_and_stop_nothing(pool: WorkerPool, site: MakeSite) -> None:
    here = site(5)
    (here.images / "m002.mrc").write_bytes(b"no image")
    told: list[Record] = []
    summary = here.run(pool, listeners=Listeners(done=told.append))
    (failure,) = (record for record in told if isinstance(record, Failure))
    assert (failure.stem, failure.kind) == ("m002", "IncompleteError")
    assert failure.message.startswith(str(here.images / "m002.mrc"))
    assert (summary.totals.micrographs, summary.totals.failed) == (4, 1)


def test_a_micrograph_that_kills_its_worker_is_set_aside_after_three_and_the_others_go_on(
    pool: WorkerPool, site: MakeSite, misfortune: Arrange
) -> None:
    here = site(20)
    calls = misfortune("m003", "kill")
    told: list[Record] = []
    summary = here.run(pool, listeners=Listeners(done=told.append))
    assert calls.read_text().split().count("m003") == 3
    (failure,) = (record for record in told if isinstance(record, Failure))
    assert (failure.stem, failure.kind) == ("m003", "WorkerDiedError")
    assert "3 workers were lost that had it in hand" in failure.message
    assert len(here.picked()) == 19
    assert summary.retries >= 3
    noted = calls.read_text().split()
    assert len(noted) <= 20 + 3 * 2 * driver.PER_THREAD * 2


def test_a_micrograph_that_hangs_is_set_aside_and_the_others_go_on(
    pool: WorkerPool, site: MakeSite, misfortune: Arrange
) -> None:
    here = site(8)
    misfortune("m001", "hang")
    told: list[Record] = []
    here.run(pool, listeners=Listeners(done=told.append), deadline_s=1.5)
    assert [record.stem for record in told if isinstance(record, Failure)] == ["m001"]
    assert len(here.picked()) == 7


def test_a_worker_that_is_killed_costs_nothing(pool: WorkerPool, site: MakeSite, misfortune: Arrange) -> None:
    here = site(12)
    misfortune("m004", "kill once")
    told: list[Record] = []
    summary = here.run(pool, listeners=Listeners(done=told.append))
    assert sorted(record.stem for record in told) == [f"m{number:03}" for number in range(12)]
    assert all(isinstance(record, MicrographRecord) for record in told)
    assert summary.totals.failed == 0
    assert summary.retries >= 1


@pytest.mark.parametrize("what", ["EIO once", "change once"])
def test_what_fails_for_a_moment_is_tried_again(
    what: str, pool: WorkerPool, site: MakeSite, misfortune: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.0)
    monkeypatch.setattr(bookkeeping, "CHANGED_S", 0.0)
    here = site(4)
    calls = misfortune("m001", what)
    summary = here.run(pool)
    assert (summary.totals.micrographs, summary.totals.failed) == (4, 0)
    assert calls.read_text().split().count("m001") == 2


def test_what_a_worker_does_not_see_is_a_failure_in_the_end_also_while_watching(
    pool: WorkerPool, site: MakeSite, misfortune: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.0)
    here = site(2)
    calls = misfortune("m001", "ENOENT")
    told: list[Record] = []
    source = Watched([str(here.images)], timing=Timing(settle_s=0.05, poll_s=0.05), until=2)
    summary = here.run(pool, source=source, listeners=Listeners(done=told.append))
    assert (summary.totals.micrographs, summary.totals.failed) == (1, 1)
    assert calls.read_text().split().count("m001") == 6
    (failure,) = (record for record in told if isinstance(record, Failure))
    assert re.search(r"m001.mrc: .*so says worker .*: all machines must see the same paths", failure.message)


def test_workers_of_a_run_that_has_lost_its_folder_write_nothing(pool: WorkerPool, site: MakeSite) -> None:
    here = site(3)
    picker = open_picker(24.0, model=str(here.model), backend="cpu")
    with OutputFolder(here.out) as output:
        (here.out / ".gtpick" / "lock").write_text("process 1 on another\n")
        with pytest.raises(bookkeeping.UsageError, match="was removed, or taken over"):
            driver.run(
                pool,
                Listed(find_jobs([str(here.images)]).jobs),
                picker,
                _with_holder(output, "process 2 on this"),
                settings_of(picker, 0.9),
                model=str(here.model),
                backend="cpu",
            )
    assert here.picked() == []


def _with_holder(output: OutputFolder, text: str) -> OutputFolder:
    class Other(OutputFolder):
        holder = text  # type: ignore[assignment]

    output.__class__ = Other
    return output


def test_while_the_disk_is_full_nothing_is_given_out(
    pool: WorkerPool, site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.05)
    here = site(4)
    blocked = here.out / ".gtpick" / "previews"
    notices: list[str] = []
    pool.client.run(_fill_disk, str(blocked))
    probed = OutputFolder.probe
    times: list[int] = []

    def probe(output: OutputFolder) -> None:
        times.append(1)
        if len(times) < 3:
            raise bookkeeping.BlockedError("disk full, say")
        pool.client.run(_free_disk)
        probed(output)

    monkeypatch.setattr(OutputFolder, "probe", probe)
    summary = here.run(pool, listeners=Listeners(notice=notices.append))
    assert (summary.totals.micrographs, summary.totals.failed) == (4, 0)
    assert notices == ["disk full, say: waiting until it can be written to"]
    assert len(times) >= 3


def _fill_disk(folder: str) -> None:
    import errno
    import os

    from gtpick_rt.output import pick_files

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    pick_files.really = pick_files.write_atomic  # type: ignore[attr-defined]
    pick_files.write_atomic = full  # type: ignore[assignment]


def _free_disk() -> None:
    from gtpick_rt.output import pick_files

    if hasattr(pick_files, "really"):
        pick_files.write_atomic = pick_files.really
        del pick_files.really


def test_a_stop_ends_it_soon_and_what_is_done_is_kept(pool: WorkerPool, site: MakeSite) -> None:
    here = site(30)
    stop = threading.Event()
    told: list[Record] = []

    def done(record: Record) -> None:
        told.append(record)
        stop.set()

    summary = here.run(pool, stop=stop, listeners=Listeners(done=done))
    assert 1 <= summary.picked < 30
    assert len(here.picked()) == summary.picked == len(told)
    assert here.run(pool).totals.micrographs == 30


def test_micrographs_are_picked_as_they_arrive(pool: WorkerPool, site: MakeSite) -> None:
    here = site(2)
    timing = Timing(settle_s=0.1, poll_s=0.1)
    source = Watched([str(here.images)], timing=timing, until=4)

    def later() -> None:
        time.sleep(1.0)
        for name in ("late1", "late2"):
            (here.images / f".{name}.tmp").write_bytes((here.images / "m000.mrc").read_bytes())
            (here.images / f".{name}.tmp").rename(here.images / f"{name}.mrc")

    thread = threading.Thread(target=later)
    thread.start()
    here.run(pool, source=source)
    thread.join()
    assert here.picked() == ["late1", "late2", "m000", "m001"]


def test_workers_that_find_no_gpu_are_left_out_one_by_one_and_the_run_ends(
    pool: WorkerPool, site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MOST_UNFIT", 2)  # each is restarted once
    here = site(2)
    notices: list[str] = []
    with pytest.raises(BackendError, match=r"no worker is left that can pick; worker .*: no GPU can be used here"):
        here.run(pool, gpu=True, listeners=Listeners(notice=notices.append))
    told = {notice.partition(":")[0] for notice in notices}
    told.discard("no worker is there; waiting for one")  # where they take long to start
    assert told == {"worker worker0 is left out", "worker worker1 is left out"}
    assert here.picked() == []
