import errno
import gc
import json
import os
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from gtpick_rt.errors import UsageError
from gtpick_rt.files.atomic import write_atomic
from gtpick_rt.formats.coordinates import read_coordinates
from gtpick_rt.formats.star import read_record
from gtpick_rt.output.commit import commit_picks, discard_picks, load_detections
from gtpick_rt.output.layout import detections_path, star_path
from gtpick_rt.types import Picks

STEM = PurePosixPath("Mics/a")


@pytest.fixture
def detections() -> Picks:
    return Picks(
        np.array([[1, 2], [3, 4], [5, 6]], np.float32),
        np.array([10, 11, 12], np.float32),
        np.array([0.5, 0.1, 0.4], np.float32),
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_made_with_its_folders_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "a"
    for data in (b"first, and longer", b"second"):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert files(tmp_path) == ["x/y/a"]


def test_a_new_file_is_shared_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["a"]


def test_an_interrupt_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"new")
    assert files(tmp_path) == []


def test_the_file_is_synced_whole_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    synced = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append(("folder" if stat.S_ISDIR(status.st_mode) else status.st_size, path.exists()))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(path, b"12345")
    assert synced == [(5, False), ("folder", True)]


def test_each_folder_that_is_made_is_synced_in_the_one_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), tmp_path))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "x" / "y" / "a", b"1")
    assert {".", "x", "x/y"} <= set(synced)
    synced.clear()
    write_atomic(tmp_path / "x" / "y" / "b", b"1")
    assert [name for name in synced if not name.endswith(".tmp")] == ["x/y"]


def test_a_file_lasts_only_once_its_folder_does_which_another_thread_is_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, made, synced = os.fsync, threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            made.set()
            time.sleep(0.3)  # the other has time to write
            synced.set()
        really(descriptor)

    def write_when_made() -> bool:
        assert made.wait(timeout=20)
        write_atomic(tmp_path / "x" / "b", b"x")
        return synced.is_set()

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(write_when_made)
        write_atomic(tmp_path / "x" / "a", b"x")
        assert other.result()


def test_an_error_names_the_file_and_not_its_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output") as raised:
        write_atomic(tmp_path / "a", b"new")
    assert (raised.value.filename, raised.value.errno) == (str(tmp_path / "a"), errno.EIO)
    monkeypatch.undo()
    with pytest.raises(OSError, match="too long") as raised:
        write_atomic(tmp_path / ("a" * 300), b"new")
    assert raised.value.filename == str(tmp_path / ("a" * 300))


def test_a_folder_that_cannot_be_synced_is_tolerated_but_not_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def fsync_failing_with(number: int) -> None:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            really(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    fsync_failing_with(errno.EINVAL)
    write_atomic(tmp_path / "a", b"x")
    fsync_failing_with(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "a", b"y")


def test_picks_above_the_threshold_are_committed_and_all_detections_kept(tmp_path: Path, detections: Picks) -> None:
    path = commit_picks(tmp_path, STEM, detections, 0.4, '{"n": 1}')
    assert path == star_path(tmp_path, STEM) == tmp_path / "Mics" / "a_autopick.star"
    np.testing.assert_array_equal(read_coordinates(path).xy_px, [[1, 2], [5, 6]])
    kept = load_detections(tmp_path, STEM)
    for name in ("xy_px", "diameter_px", "score"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(detections, name))
        assert getattr(kept, name).dtype == np.float32
    assert files(tmp_path) == [".gtpick/detections/Mics/a.npz", "Mics/a_autopick.star"]


@pytest.mark.parametrize("record", ['{"path": "/data_1/a.mrc"}', '{"name": "loop_ # version 2"}', "{}"])
def test_the_record_of_a_micrograph_comes_back_from_its_star_file(
    record: str, tmp_path: Path, detections: Picks
) -> None:
    path = commit_picks(tmp_path, STEM, detections, 0.4, record)
    assert json.loads(read_record(path)) == json.loads(record)
    assert path.read_text().count("data_") == 1  # RELION would take a second one for another table
    path.write_text("data_\n\nloop_\n_rlnCoordinateX #1\n")
    assert read_record(path) == ""


def test_no_detections_are_committed_too(tmp_path: Path) -> None:
    assert len(read_coordinates(commit_picks(tmp_path, STEM, Picks.empty(), 0.4, "{}"))) == 0
    assert len(load_detections(tmp_path, STEM)) == 0


def test_the_star_is_the_last_to_be_written(tmp_path: Path, detections: Picks, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        if path.suffix == ".star":
            raise OSError(errno.EIO, "disk")
        write_atomic(path, data)

    monkeypatch.setattr("gtpick_rt.output.commit.write_atomic", fail)
    with pytest.raises(OSError, match="disk"):
        commit_picks(tmp_path, STEM, detections, 0.4, '{"n": 1}')
    assert files(tmp_path) == [".gtpick/detections/Mics/a.npz"]


def test_missing_or_damaged_detections_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pick it again"):
        load_detections(tmp_path, STEM)
    for data in (b"", b"PK\x03\x04 damaged", b"not a zip"):
        write_atomic(detections_path(tmp_path, STEM), data)
        with pytest.raises(UsageError, match=r"pick .* again"):
            load_detections(tmp_path, STEM)


def test_kept_detections_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "exploded"),)  # type: ignore[return-value]

    path = detections_path(tmp_path, STEM)
    path.parent.mkdir(parents=True)
    arrays = {name: np.array([Bomb()], dtype=object) for name in ("xy_px", "diameter_px", "score")}
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="damaged"):
        load_detections(tmp_path, STEM)
    assert not (tmp_path / "exploded").exists()


def test_discarding_leaves_nothing_to_take_for_picks(tmp_path: Path, detections: Picks) -> None:
    commit_picks(tmp_path, STEM, detections, 0.4, '{"n": 1}')
    discard_picks(tmp_path, STEM)
    assert files(tmp_path) == []
    discard_picks(tmp_path, PurePosixPath("a" * 300))


def test_kept_detections_are_read_in_several_threads_at_a_time(
    tmp_path: Path, detections: Picks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython 3.11 cannot parse in two threads at once, which numpy asks of it: so often that it
    would show.
    """
    commit_picks(tmp_path, STEM, detections, threshold=0.4, record="")
    errors, collections = list[BaseException](), [0]

    def load(depth: int) -> None:
        if depth:
            return load(depth - 1)
        try:
            for _ in range(60):
                assert len(load_detections(tmp_path, STEM)) == 3
        except BaseException as error:
            errors.append(error)

    def part(phase: str, info: object) -> None:
        collections[0] += 1
        time.sleep(0.0001 if collections[0] % 3 == 0 else 0)

    before = gc.get_threshold(), sys.getswitchinterval()
    try:
        gc.set_threshold(1)
        gc.callbacks.append(part)
        sys.setswitchinterval(1e-5)
        threads = [threading.Thread(target=load, args=(depth,)) for depth in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(part)
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
    assert errors == []


def test_kept_detections_are_parsed_one_at_a_time(
    tmp_path: Path, detections: Picks, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_picks(tmp_path, STEM, detections, threshold=0.4, record="")
    parsing, overlapped, really = threading.Semaphore(1), list[bool](), np.load

    def load(*arguments: Any, **options: Any) -> Any:
        overlapped.append(not parsing.acquire(blocking=False))
        try:
            time.sleep(0.05)  # in which the others come
            return really(*arguments, **options)
        finally:
            if not overlapped[-1]:
                parsing.release()

    monkeypatch.setattr(np, "load", load)
    together = threading.Barrier(3)

    def read() -> None:
        together.wait()
        load_detections(tmp_path, STEM)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlapped == [False, False, False]
