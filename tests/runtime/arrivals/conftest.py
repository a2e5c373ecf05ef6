"""A clock that tests turn, and a watcher that lives by it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import WAITING, Arrival, Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.records import Failure
from gtpick_rt.types import FloatArray

EPOCH_S = 1_700_000_000
"""Of the file system's clock, when ours stands at 0: nothing may depend on it."""


class Clock:
    """Seconds that pass only while someone waits; what is planned happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.file_epoch_s: float = EPOCH_S
        self._plan: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        return self.now

    def at(self, time: float, action: Callable[[], object]) -> None:
        self._plan.append((time, action))
        self._plan.sort(key=lambda entry: entry[0])

    def wait(self, seconds: float) -> None:
        assert 0 <= seconds <= 0.2
        end = self.now + seconds
        while self._plan and self._plan[0][0] <= end:
            self.now, action = max(self.now, self._plan[0][0]), self._plan.pop(0)[1]
            action()
        self.now = end

    def touch(self, path: Path) -> None:
        """Give a file the time of now, as a file system with a clock of its own would."""
        time_ns = int((self.file_epoch_s + self.now) * 1e9)
        os.utime(path, ns=(time_ns, time_ns))

    def write(self, path: Path, data: bytes, offset: int = 0) -> None:
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(offset)
            file.write(data)
        self.touch(path)


class Watcher:
    """A source, what it has given so far, and a pipeline that is at once through with it unless
    told otherwise.
    """

    def __init__(self, source: Watched, clock: Clock) -> None:
        self.source, self.clock = source, clock
        self.ended = False
        self.notices: list[Failure] = []
        self._arrivals: Iterator[Arrival | None] = iter(source)

    def run(self, seconds: float, done: bool = True) -> list[Arrival]:
        """What comes within some seconds."""
        end, given = self.clock.now + seconds, list[Arrival]()
        for arrival in self._arrivals:
            if isinstance(arrival, Job) and done:
                self.source.done(arrival)
            if isinstance(arrival, Failure) and arrival.kind == WAITING:
                self.notices.append(arrival)
            elif arrival is not None:
                given.append(arrival)
            elif self.clock.now >= end:
                return given
        self.ended = True
        return given

    def jobs(self, seconds: float, done: bool = True) -> list[str]:
        """Stems of the jobs that come within some seconds; nothing else may come."""
        given = self.run(seconds, done)
        assert not [arrival for arrival in given if isinstance(arrival, Failure)]
        return [str(arrival.stem) for arrival in given if isinstance(arrival, Job)]

    def notice(self, seconds: float) -> Failure:
        """The only thing that comes within some seconds, a notice that something is waited for."""
        before = len(self.notices)
        assert not self.run(seconds)
        (notice,) = self.notices[before:]
        return notice

    def failure(self, seconds: float) -> Failure:
        """The only thing that comes within some seconds, a failure."""
        (failure,) = self.run(seconds)
        assert isinstance(failure, Failure)
        return failure


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Callable[..., Watcher]:
    """A function that watches inputs by the clock: a file settles in 2 s, and is reported after 60
    s.
    """

    def make(*inputs: str, timing: Timing = Timing(max_wait_s=60), **options: Any) -> Watcher:  # noqa: B008
        source = Watched(inputs, timing=timing, clock=clock, wait=clock.wait, **options)
        return Watcher(source, clock)

    return make


@pytest.fixture
def image(save_mrc: Callable[[Path, FloatArray], Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MRC file of 512 x 520 pixels, none of them 0."""
    pixels = np.random.default_rng(0).uniform(1, 2, (512, 520)).astype(np.float32)
    return save_mrc(tmp_path_factory.mktemp("image") / "a.mrc", pixels).read_bytes()


@pytest.fixture
def small(save_mrc: Callable[[Path, FloatArray], Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MRC file of 6 x 8 pixels."""
    pixels = np.arange(1, 49, dtype=np.float32).reshape(6, 8)
    return save_mrc(tmp_path_factory.mktemp("small") / "a.mrc", pixels).read_bytes()


@pytest.fixture
def put(clock: Clock, small: bytes) -> Callable[..., None]:
    """A function that writes whole small images, making folders as needed."""

    def write(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            clock.write(Path(name), small)

    return write


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def failing_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function after which files cannot be opened, even by root, because of an error with that
    number; 0 ends it.
    """
    number = 0
    really = Path.open

    def open_or_fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if number:
            raise OSError(number, os.strerror(number), str(path))
        return really(path, *arguments, **options)

    def set_number(chosen: int) -> None:
        nonlocal number
        number = chosen

    monkeypatch.setattr(Path, "open", open_or_fail)
    return set_number
