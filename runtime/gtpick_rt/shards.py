"""One output folder for several runs that know nothing of each other: each picks the micrographs of its own share.

They need no network, as where Slurm starts an array of jobs behind firewalls. Which share a micrograph belongs to
depends on its name alone. The last run to end lists what all of them have picked.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gtpick_rt.commit import write_atomic, write_new
from gtpick_rt.converting import convert
from gtpick_rt.errors import InUseError, UsageError
from gtpick_rt.journal import failures_of
from gtpick_rt.layout import lock_path, log_path, shards_folder, star_path
from gtpick_rt.lock import FolderLock, lock_folder, share_folder
from gtpick_rt.output import OutputFolder
from gtpick_rt.summary import Settings, Summary, WorkerRecord

_LISTING_S = 120.0
"""Within which the last shard has listed what all have done."""
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Shard:
    """Share `number`, counted from 1, of `of` shares."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read the value of --shard. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}: give i/n, with i from 1 to n, as in --shard 3/8")
        return cls(int(found[1]), int(found[2]))

    def holds(self, stem: PurePosixPath | str) -> bool:
        """Whether the micrograph with outputs of this name belongs to it."""
        digest = hashlib.blake2b(str(stem).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.number}-of-{self.of}"


class ShardFolder(OutputFolder):
    """An output folder that other shards write to at the same time.

    The first to begin decides the settings, as far as they were measured; `agree` tells. Raises UsageError as
    OutputFolder does, and when this shard, shards of another number, or a run without shards is at work there.
    """

    _alone = False

    def __init__(self, out: Path, shard: Shard) -> None:
        self._shard = shard
        self._mine = shards_folder(out) / shard.name
        super().__init__(out)

    def _take_lock(self) -> FolderLock:
        own = lock_folder(self._mine.with_suffix(".lock"))
        try:
            self._refuse_other_numbers()
            return _Both(own, self._share())
        except BaseException:
            own.release()
            raise

    def _share(self) -> FolderLock:
        """Keep out whoever wants the folder for himself; a shard that has ended may be listing what is done."""
        until = time.monotonic() + _LISTING_S
        while True:
            try:
                return share_folder(lock_path(self.path))
            except InUseError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _refuse_other_numbers(self) -> None:
        for path in shards_folder(self.path).glob("*.lock"):
            if not path.stem.endswith(f"-of-{self._shard.of}"):
                lock_folder(path).release()  # refused while it is held

    @property
    def index(self) -> Path:
        """The index of this shard, of the whole folder."""
        return self._mine.with_suffix(".sqlite")

    @property
    def log_file(self) -> Path:
        """The log of this shard."""
        return self._mine.with_suffix(log_path(self.path).suffix)

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
        """The settings that the first shard has begun with, which are these if that is this one."""
        with self.writing():
            write_new(_agreement(self.path), settings.to_json().encode())
        self.previous = self._agreed() or settings
        return self.previous

    def write_lists(self, summary: Summary) -> None:
        """Leave the summary for the last shard; the first keeps the lists current meanwhile."""
        with self.writing():
            write_atomic(self._mine.with_suffix(".json"), json.dumps(dataclasses.asdict(summary)).encode())
        if self._shard.number == 1:
            self._indexed(self._journal.reconcile)
            super().write_lists(dataclasses.replace(summary, totals=self.totals))

    def close(self) -> None:
        """Let others write; the last one lists what all shards have done."""
        super().close()
        if self._files is not None:
            try:
                whole = OutputFolder(self.path)
            except InUseError:  # by another shard, which will see to it
                return
            with whole:
                _list_all(whole, self._files.settings)


class _Both:
    """Two locks in one."""

    def __init__(self, *locks: FolderLock) -> None:
        self._locks = locks

    def is_held(self) -> bool:
        return all(lock.is_held() for lock in self._locks)

    def release(self) -> None:
        for lock in self._locks:
            lock.release()


def _agreement(out: Path) -> Path:
    return shards_folder(out) / "settings.json"


def _list_all(whole: OutputFolder, settings: Settings) -> None:
    """Write what one run without shards would have written at its end."""
    folder = shards_folder(whole.path)
    noted = [failure for index in sorted(folder.glob("*.sqlite")) for failure in failures_of(index)]
    failures = [each for each in noted if not star_path(whole.path, PurePosixPath(each.stem)).exists()]
    paths = sorted(folder.glob("*-of-*.json"))
    summaries = [(path.stem, Summary.from_json(path.read_text())) for path in paths]
    whole.begin(settings)
    for failure in failures:
        whole.report(failure)
    convert(whole)
    if summaries:
        whole.write_lists(dataclasses.replace(_joined(summaries), totals=whole.totals))


def _joined(summaries: list[tuple[str, Summary]]) -> Summary:
    """One summary of all shards, each of which counts as a worker."""
    _, last = max(summaries, key=lambda each: each[1].seconds)
    stage_seconds: Counter[str] = Counter()
    workers = []
    for name, each in summaries:
        stage_seconds.update(each.stage_seconds)
        busy_s = sum(each.stage_seconds.values())
        record = WorkerRecord(name=f"shard {name}", backend=each.backend, micrographs=each.picked, busy_s=busy_s)
        workers.append(record)
    picked = sum(each.picked for _, each in summaries)
    return dataclasses.replace(last, stage_seconds=dict(stage_seconds), picked=picked, workers=workers)
