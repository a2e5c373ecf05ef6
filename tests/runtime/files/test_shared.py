"""Whoever reads what others write takes what is gone for absent, at whichever moment it goes."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from gtpick_rt.arrivals.folders import DEFAULT_NAMES, Folder, Pattern
from gtpick_rt.backends.engines.cache import EngineCache
from gtpick_rt.errors import GtpickError
from gtpick_rt.evaluate.finding import find_coordinates
from gtpick_rt.evaluate.loading import recorded_pixel_sizes_A
from gtpick_rt.files.shared import bytes_of, names_in, paths_below, remove, status_of, unless_gone
from gtpick_rt.following.history import History
from gtpick_rt.following.logs import holder_lives
from gtpick_rt.output import shards
from gtpick_rt.output.commit import commit_picks, find_detections
from gtpick_rt.output.holders import holder
from gtpick_rt.output.layout import index_path, lock_path, log_path, shards_folder, summary_path
from gtpick_rt.output.lock import lock_folder, share_folder
from gtpick_rt.output.retrying import Requests, ask_again
from gtpick_rt.types import Picks

CALLS = ((os, "stat"), (os, "scandir"), (os, "listdir"), (os, "open"), (io, "open"), (os, "unlink"), (os, "rmdir"))
"""Every call of the system by which files are looked at here."""
READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "history": (lambda out: History(out).catch_up(), ".gtpick/shards"),
    "holder of the folder": (lambda out: (holder_lives(out), holder(lock_path(out))), ".gtpick/shards"),
    "requests": (lambda out: list(Requests(out).take()), ".gtpick/retry"),
    "summaries of shards": (lambda out: shards._summaries(out, 2), ".gtpick/shards"),
    "index of a shard": (lambda out: shards.copy_index(index_path(out), out.parent / "copy.sqlite"), ".gtpick"),
    "detections": (lambda out: find_detections(out, PurePosixPath("a")), ".gtpick/detections"),
    "coordinates": (find_coordinates, "deep"),
    "pixel sizes": (lambda out: recorded_pixel_sizes_A(summary_path(out)), ""),
    "folder of micrographs": (lambda out: searched(Folder(out, True, DEFAULT_NAMES)), "deep"),
    "pattern of micrographs": (lambda out: searched(Pattern(out / "**" / "*.mrc", DEFAULT_NAMES)), "deep"),
    "engines": (lambda out: EngineCache(out / "engines").entries(), "engines"),
    "removal": (lambda out: remove(shards_folder(out)), ".gtpick/shards"),
    "tree": (lambda out: paths_below(out, "**/*"), "deep"),
    "file": (lambda out: (bytes_of(log_path(out)), status_of(log_path(out)), names_in(out, "*")), ".gtpick"),
}
"""What reads, and the folder inside that may vanish, beside all of it."""


def searched(place: Folder | Pattern) -> None:
    """Search for micrographs; a folder that is gone is no failure."""
    _, failures = place.search()
    assert not failures


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Path]:
    """A function that makes an output folder into which two shards pick."""

    def made() -> Path:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        for part in ("1-of-2", "2-of-2"):
            for suffix in (".jsonl", ".sqlite", ".lock"):
                path = shards_folder(out) / f"{part}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
        commit_picks(out, PurePosixPath("a"), Picks.empty(), 0.5, "{}")
        ask_again(out, "a")
        log_path(out).write_text('{"time": "2026-11-28T12:00:00+0000", "state": "begun"}\n')
        summary_path(out).write_text('{"micrographs": [{"pixel_size_A": 1.0}]}')
        index_path(out).write_bytes(b"")
        lock_path(out).write_text("")
        (out / "deep" / "er").mkdir(parents=True)
        np.zeros(4).tofile(out / "deep" / "er" / "b.mrc")
        (out / "engines").mkdir(mode=0o700)
        (out / "engines" / "c.engine").write_bytes(b"plan")
        return out

    return made


class Remover:
    """Removes a folder right before or right after the n-th call of the system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left, self._folder, self._after = -1, Path(), False
        self._really = {(module, name): getattr(module, name) for module, name in CALLS}
        for module, name in CALLS:
            monkeypatch.setattr(module, name, self._counting(module, name))

    def _counting(self, module: Any, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            due = self._left == 0
            if due and not self._after:
                self._remove()
            try:
                return self._really[module, name](*arguments, **options)
            finally:
                if due and self._after:
                    self._remove()

        return call

    def _remove(self) -> None:
        self._left = -1
        shutil.rmtree(self._folder)

    def at(self, call: int, folder: Path, after: bool) -> None:
        self._left, self._folder, self._after = call, folder, after

    @property
    def is_done(self) -> bool:
        done, self._left = self._left < 0, -1
        return done


@pytest.fixture
def remover(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remover]:
    with monkeypatch.context() as patch:
        yield Remover(patch)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_a_folder_may_vanish_at_every_call(
    reader: str, whole: bool, after: bool, make: Callable[[], Path], remover: Remover
) -> None:
    read, part = READERS[reader]
    for call in range(1, 1000):
        out = make()
        remover.at(call, out if whole else out / part, after)
        try:
            read(out)
        except GtpickError as error:  # all that was asked for is gone
            assert "no such file or folder" in str(error)
        if not remover.is_done:
            break
    assert call > 1


@pytest.mark.parametrize("take", [lock_folder, share_folder])
def test_a_lock_says_that_it_is_not_held_once_its_folder_is_gone(take: Callable[[Path], Any], tmp_path: Path) -> None:
    lock = take(lock_path(tmp_path / "out"))
    assert lock.is_held()
    shutil.rmtree(tmp_path / "out")
    assert not lock.is_held()
    lock.release()


def test_other_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        unless_gone(refuse, None)
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(PermissionError):
        remove(tmp_path / "folder")
