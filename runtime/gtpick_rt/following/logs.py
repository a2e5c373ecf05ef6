"""What the runs of an output folder say of themselves: one run, or several that share it."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from gtpick_rt.files.shared import names_in
from gtpick_rt.following.records import written_at
from gtpick_rt.following.tail import Head, Tail
from gtpick_rt.output.holders import lives
from gtpick_rt.output.layout import lock_path, log_path, shards_folder

_OF_SHARD = b'"shard": "'


class Increment(NamedTuple):
    """What an output folder has gained since it was read last."""

    anew: bool
    """The log is another one than before."""
    lines: list[bytes]
    summary: dict[str, Any] | None
    """None where it is as before."""
    shards: dict[str, dict[str, Any]]
    """The summary of each shard that is not as before."""
    shared: bool
    """Whether the folder is shared by shards, which may have ended without the last one listing
    what they did."""
    lives: bool | None
    """Whether the process that holds the folder lives; None where that cannot be told."""

    @property
    def written(self) -> list[float]:
        """When the summaries that are not as before were written, as far as they tell."""
        times = map(written_at, (self.summary or {}, *self.shards.values()))
        return [time for time in times if time is not None]


class Logs:
    """Reads the log of a folder and, as long as there are any, those of its shards.

    What shards have logged is moved to the log of the folder when the last of them ends. Each line
    is given once.
    """

    def __init__(self, out: Path) -> None:
        self._folder, self._tail = shards_folder(out), Tail(log_path(out))
        self._shards: dict[Path, Tail] = {}
        self._halves = Counter[int]()  # how often each line was read in the logs of shards, less than in the other

    @property
    def behind(self) -> bool:
        """Whether there is more to be read at once."""
        return self._tail.behind or any(tail.behind for tail in self._shards.values())

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether the log is another one than before, and the lines that are new, a
        bounded number.
        """
        paths = names_in(self._folder, f"*-of-*{log_path(self._folder).suffix}")
        anew, lines = self._tail.read()
        if anew:
            self._shards.clear()
            self._halves.clear()
            return True, []
        if paths or self._halves:
            lines = [line for line in lines if self._is_new(line, -1)]
        if self._tail.behind:
            return False, lines
        self._shards = {path: self._shards.get(path) or Tail(path) for path in paths}
        if not paths:
            self._halves.clear()
        for tail in self._shards.values():
            lines += [line for line in tail.read()[1] if self._is_new(line, 1)]
            if tail.behind:
                break
        return False, lines

    def _is_new(self, line: bytes, sign: int) -> bool:
        if _OF_SHARD not in line:
            return True
        half = hash(line)
        before = self._halves.pop(half, 0)
        if before != -sign:
            self._halves[half] = before + sign
        return before * sign >= 0


class Heads:
    """Reads what the summary of a folder says of the run as a whole, and those of its shards."""

    def __init__(self, summary: Path, out: Path) -> None:
        self._folder, self._head = shards_folder(out), Head(summary)
        self._shards: dict[Path, Head] = {}

    @property
    def shared(self) -> bool:
        """Whether there are any of shards."""
        return bool(self._shards)

    @property
    def mtime(self) -> float | None:
        """When one of them was written last, by the clock of its file system.

        None while there is none.
        """
        return max(
            (head.mtime for head in (self._head, *self._shards.values()) if head.mtime is not None), default=None
        )

    def read(self) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
        """What the summary says now, and what shards say, by their names; nothing where it is the
        same as before.
        """
        self._shards = {path: self._shards.get(path) or Head(path) for path in names_in(self._folder, "*-of-*.json")}
        read = {path.stem.replace("-of-", "/"): head.read() for path, head in self._shards.items()}
        return self._head.read(), {name: summary for name, summary in read.items() if summary is not None}


def holder_lives(out: Path) -> bool | None:
    """Whether a process lives that picks into a folder, alone or as a shard.

    None where that cannot be told.
    """
    found = {lives(path) for path in (lock_path(out), *names_in(shards_folder(out), "*.lock"))}
    return True if True in found else None if None in found else False
