"""Faults that operating systems and disks have, and runs that are small enough to
meet all of them.
"""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.shared import tiny_runs
from gtpick_rt.arrivals import listed
from gtpick_rt.pipeline import bookkeeping, queues, reading

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults"
STANDSTILL_S = 240
"""A benchmark that takes so long has come to a standstill."""


@pytest.fixture
def run_benchmark() -> Callable[..., dict[str, Any]]:
    """A function that runs a benchmark that breaks runs on purpose, and gives its figures.

    One that comes to a standstill is aborted, and tells where its threads stood.
    """

    def run(name: str, *options: object) -> dict[str, Any]:
        command = [sys.executable, "-X", "faulthandler", str(BENCHMARKS / name), *map(str, options), "--no-save"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process:
            try:
                out, errors = process.communicate(timeout=STANDSTILL_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                out, errors = process.communicate()
        assert process.returncode == 0, out + errors
        return dict(json.loads(out))

    return run


@pytest.fixture
def tiny() -> ModuleType:
    """The module that makes tiny runs and judges their output folders."""
    return tiny_runs


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run try again without pauses, and its threads part without delay."""
    monkeypatch.setattr(reading, "_TRIES_S", (0.0, 0.0))
    monkeypatch.setattr(bookkeeping, "AGAIN_S", 0.001)
    monkeypatch.setattr(queues, "_TICK_S", 0.005)
    monkeypatch.setattr(listed, "TICK_S", 0.005)


class Faults:
    """Makes operations on files below a folder fail:

    `times` of one kind in a row, from the n-th on.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._operation, self._number = str(root), "", 0
        self._countdown = self._times = 0
        self.met = False

    def plan(self, operation: str, number: int, moment: int, times: int) -> None:
        """Let the operation fail with the error `number` at its `moment`, counted from 1, and so
        often.
        """
        self._operation, self._number, self._countdown, self._times, self.met = operation, number, moment, times, False

    def mend(self) -> None:
        """Let everything succeed from now on."""
        self._operation = ""

    def pass_or_fail(self, operation: str, target: Any) -> None:
        """Count an operation. Raises OSError when it is to fail."""
        path = _path_of(target)
        if operation != self._operation or not path.startswith(self._root):
            return
        self._countdown -= 1
        if self._countdown <= 0 < self._times:
            self._times -= 1
            self.met = True
            raise OSError(self._number, os.strerror(self._number), path)


def _path_of(target: Any) -> str:
    return str(Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults of open, read, write, fsync and rename in `tmp_path`, and of the index, until it is
    planned: none.
    """
    faults = Faults(tmp_path)

    class FaultyFile(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            faults.pass_or_fail("read", self.fileno())
            return super().readinto(buffer)

        def readall(self) -> bytes | None:
            faults.pass_or_fail("read", self.fileno())
            return super().readall()

        def write(self, data: Any) -> int | None:  # type: ignore[override]
            faults.pass_or_fail("write", self.fileno())
            return super().write(data)

    class FaultyIndex(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            try:
                faults.pass_or_fail("index", tmp_path)
            except OSError as error:
                raise sqlite3.OperationalError("disk I/O error") from error
            return super().execute(sql.replace("= FULL", "= OFF"), *arguments)  # a disk would be slow

    really_open, really_connect = io.open, sqlite3.connect

    def opening(target: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not isinstance(target, int):
            faults.pass_or_fail("open", target)
        if mode == "rb":
            return io.BufferedReader(FaultyFile(target, "rb"))
        if mode == "wb":
            return io.BufferedWriter(FaultyFile(target, "wb"))
        return really_open(target, mode, *arguments, **options)

    monkeypatch.setattr("io.open", opening)
    monkeypatch.setattr("builtins.open", opening)
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: really_connect(*a, factory=FaultyIndex, **o))
    monkeypatch.setattr(os, "open", _guarded(faults, "open", os.open))
    monkeypatch.setattr(os, "fsync", _guarded(faults, "fsync", lambda descriptor: None))  # a disk would be slow
    monkeypatch.setattr(Path, "replace", _guarded(faults, "rename", Path.replace))
    return faults


def _guarded(faults: Faults, operation: str, really: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(target: Any, *arguments: Any, **options: Any) -> Any:
        faults.pass_or_fail(operation, target)
        return really(target, *arguments, **options)

    return guarded
