"""One output folder for several runs that know nothing of each other: each picks the micrographs of
its own share.

They need no network, as where Slurm starts an array of jobs behind firewalls. The last run to end
lists what all of them have picked.
"""

import dataclasses
import json
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path, PurePosixPath

from gtpick_rt.arrivals.sharding import Shard
from gtpick_rt.errors import InUseError
from gtpick_rt.files.atomic import write_atomic, write_new
from gtpick_rt.files.shared import bytes_of, names_in
from gtpick_rt.output.converting import convert
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.index_files import copy_index
from gtpick_rt.output.journal import Journal
from gtpick_rt.output.layout import index_path, lock_path, log_path, shards_folder, star_path
from gtpick_rt.output.lock import FolderLock, lock_folder, share_folder
from gtpick_rt.output.other_index import failures_of, picked_of
from gtpick_rt.output.runlog import time_stamp
from gtpick_rt.output.summary import Settings, Summary, WorkerRecord
from gtpick_rt.records import Failure

_LOG = logging.getLogger("gtpick_rt")
_LISTING_S = 600.0
"""Within which the last shard has listed what all have done."""
_PAUSE_S = 0.5


class ShardFolder(OutputFolder):
    """An output folder that other shards write to at the same time.

    The first to begin decides the settings, as far as they were measured; `agree` tells. While a
    run without shards is at work there it waits, which `notice` is told, for some minutes or until
    `stop` is set. Raises UsageError as OutputFolder does, and when this shard or shards of another
    number are at work there.
    """

    alone = False

    def __init__(
        self,
        out: Path,
        shard: Shard,
        notice: Callable[[str], None] = _LOG.warning,
        stop: threading.Event | None = None,
    ) -> None:
        self._shard, self._notice, self._stop = shard, notice, stop or threading.Event()
        self._mine, self.shares = shards_folder(out) / _name_of(shard), shard.of
        super().__init__(out)

    def _take_lock(self) -> FolderLock:
        while True:
            with ExitStack() as stack:
                shared = self._share()
                stack.callback(shared.release)
                own = lock_folder(self._mine.with_suffix(".lock"))
                stack.callback(own.release)
                self._refuse_other_numbers()
                lock = _Both(own, shared)
                if lock.is_held():  # where there are no locks, somebody may have taken the folder since
                    stack.pop_all()
                    return lock

    def _share(self) -> FolderLock:
        """Keep out whoever wants the folder for himself; a shard that has ended may be listing what
        is done.
        """
        until, told = time.monotonic() + _LISTING_S, False
        while True:
            try:
                return share_folder(lock_path(self.path))
            except InUseError as error:
                if time.monotonic() > until or self._stop.is_set():
                    raise
                if not told:
                    self._notice(f"waiting up to {_LISTING_S / 60:.0f} min: {error}")
                    told = True
                self._stop.wait(_PAUSE_S)

    def _refuse_other_numbers(self) -> None:
        for path in names_in(shards_folder(self.path), "*.lock"):
            if not path.stem.endswith(f"-of-{self._shard.of}"):
                share_folder(path).release()  # refused while it is held

    def _open_index(self) -> Journal:
        """The index of this shard, of the whole folder; its failures are those of this shard."""
        if self.index.exists():
            return super()._open_index()
        with self.writing():
            copy_index(index_path(self.path), self.index)
            journal = super()._open_index()
            journal.forget_failures()
            return journal

    @property
    def index(self) -> Path:
        """The file of the index of this shard."""
        return self._mine.with_suffix(".sqlite")

    @property
    def log_file(self) -> Path:
        """The log of this shard."""
        return self._mine.with_suffix(log_path(self.path).suffix)

    def log(self, **entry: object) -> None:
        """Append a line to the log, as far as that can be done."""
        super().log(**entry, shard=str(self._shard))

    def holds(self, stem: str) -> bool:
        """Whether the micrograph with outputs of this name belongs to this shard."""
        return self._shard.holds(stem)

    def _find_previous(self) -> Settings | None:
        return self._agreed() or super()._find_previous()

    def _agreed(self) -> Settings | None:
        with suppress(OSError, ValueError, TypeError):
            return Settings(**json.loads(_agreement(self.path).read_bytes()))
        return None

    def agree(self, settings: Settings) -> Settings:
        """The settings of the picks that are here or else, of the shard that began first, which may
        be this one.
        """
        if self.previous is None:
            with self.writing():
                write_new(_agreement(self.path), settings.to_json().encode())
            self.previous = self._agreed() or settings
        return self.previous

    def _refusal(self, previous: Settings, settings: Settings) -> str:
        return (
            f"{self.path} was begun otherwise ({'; '.join(previous.differences(settings))}); "
            "give all shards the same options, or choose another output folder"
        )

    def _write_lists(self, summary: Summary) -> None:
        """Leave the summary for the last shard; the first keeps the lists current meanwhile."""
        with self.writing():
            write_atomic(self._mine.with_suffix(".json"), map(str.encode, summary.to_json((), (), time_stamp())))
        if self._shard.number == 1:
            self._indexed(self._journal.reconcile)
            joined = _joined(_summaries(self.path, self._shard.of))
            super()._write_lists(dataclasses.replace(joined, totals=self.totals))

    def _release(self) -> None:
        """Let others write; the last one lists what all shards have done."""
        self._lock.release()
        settings = self.previous or self._agreed()
        with suppress(InUseError):  # another will see to it
            whole = _WholeFolder(self.path, force=settings is None)
            with whole:
                _list_all(whole, settings, self._shard.of)


class _WholeFolder(OutputFolder):
    """The folder when its shards have ended."""

    def take_over(self, of: int) -> None:
        """List what was here before as the shards have it, which may have picked it once more: the
        `of` shards that have ended now after those that have died before. Raises BlockedError.
        """
        earlier, present = _indices(self.path, of)
        for index in (*earlier, *present):
            found = list(picked_of(index, _shard_of(index).holds))
            self._indexed(partial(self._journal.correct, found))


class _Both:
    """Two locks in one."""

    def __init__(self, *locks: FolderLock) -> None:
        self._locks = locks

    def is_held(self) -> bool:
        return all(lock.is_held() for lock in self._locks)

    def release(self) -> None:
        for lock in self._locks:
            lock.release()


def _name_of(shard: Shard) -> str:
    """What the files of a shard are called."""
    return f"{shard.number}-of-{shard.of}"


def _shard_of(path: Path) -> Shard:
    """The shard that a file belongs to."""
    return Shard(*map(int, path.stem.split("-of-")))


def _agreement(out: Path) -> Path:
    return shards_folder(out) / "settings.json"


def _indices(out: Path, of: int) -> tuple[list[Path], list[Path]]:
    """The indices of shards of other numbers, which have died, and of those of which there are
    `of`.
    """
    paths = names_in(shards_folder(out), "*-of-*.sqlite")
    present = [path for path in paths if _shard_of(path).of == of]
    return [path for path in paths if path not in present], present


def _list_all(whole: _WholeFolder, settings: Settings | None, of: int) -> None:
    """Write what one run without shards would have written at its end; of shards of which none has
    begun to pick, leave nothing.
    """
    summaries = _summaries(whole.path, of)
    if settings is None or not summaries:
        if whole.previous is None:
            shutil.rmtree(shards_folder(whole.path), ignore_errors=True)
        return
    failures = {failure.stem: failure for failure in _failures(whole, of)}
    whole.take_over(of)
    whole.begin(settings)
    for failure in failures.values():
        whole.report(failure)
    try:
        for failure in convert(whole):
            whole.report(failure)
    finally:
        whole.write_lists(dataclasses.replace(_joined(summaries), totals=whole.totals))


def _failures(whole: OutputFolder, of: int) -> Iterator[Failure]:
    """What these shards could not pick, and what others could not that have ended before they
    began.
    """
    earlier, present = _indices(whole.path, of)
    shards = [_shard_of(index) for index in present]
    before = failures_of(whole.index) + [each for index in earlier for each in _unpicked(whole.path, index)]
    yield from (each for each in before if not any(shard.holds(each.stem) for shard in shards))
    for index in present:
        yield from _unpicked(whole.path, index)


def _unpicked(out: Path, index: Path) -> Iterator[Failure]:
    """The failures of a shard of which there are no picks."""
    return (each for each in failures_of(index) if not star_path(out, PurePosixPath(each.stem)).exists())


def _summaries(out: Path, of: int) -> dict[Shard, Summary]:
    """What each of `of` shards says of itself."""
    read = {path: bytes_of(path) for path in names_in(shards_folder(out), f"*-of-{of}.json")}
    return {_shard_of(path): Summary.from_json(text.decode()) for path, text in read.items() if text is not None}


def _joined(summaries: dict[Shard, Summary]) -> Summary:
    """One summary of all shards, each of which counts as a worker; without the totals."""
    stage_seconds: Counter[str] = Counter()
    workers = []
    for shard, each in sorted(summaries.items(), key=lambda item: item[0].number):
        stage_seconds.update(each.stage_seconds)
        busy_s = sum(each.stage_seconds.values())
        workers.append(
            WorkerRecord(name=f"shard {shard}", backend=each.backend, micrographs=each.picked, busy_s=busy_s)
        )
    longest = max(summaries.values(), key=lambda each: each.seconds)
    return dataclasses.replace(
        longest,
        backend=", ".join(sorted({each.backend for each in summaries.values()})),
        stage_seconds=dict(stage_seconds),
        picked=sum(each.picked for each in summaries.values()),
        backlog=sum(each.backlog for each in summaries.values()),
        workers=workers,
    )
