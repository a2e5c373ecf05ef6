"""The files that the watcher knows: those that it waits for, and those that it has given."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from gtpick_rt.arrivals.inputs import Found
from gtpick_rt.arrivals.jobs import Job, clash, failure_of, is_never_picked
from gtpick_rt.arrivals.ready import Candidate
from gtpick_rt.arrivals.stamp import Stamp
from gtpick_rt.arrivals.sums import Sums
from gtpick_rt.arrivals.watched_inputs import WatchedInput
from gtpick_rt.errors import UsageError
from gtpick_rt.reading.info import fault_of_name
from gtpick_rt.records import Failure, quoted

RECHECKED = 1000
"""Files that were given before and are looked at again after each search."""


@dataclass(frozen=True, slots=True)
class Given:
    """A file that was given, or that an earlier run has picked."""

    origin: WatchedInput
    stamp: Stamp


@dataclass(slots=True, kw_only=True)
class Awaited(Candidate):
    """A file that will be given once it is ready."""

    origin: WatchedInput


def job_of(origin: WatchedInput, path: str) -> Job | Failure:
    """The job of a file that was found, or why it cannot become a micrograph."""
    try:
        job = origin.job(path)
    except UsageError as error:
        return failure_of(path, str(error))
    fault = fault_of_name(job.path)
    return failure_of(path, f"{quoted(path)}: the file name {fault}; rename the file") if fault else job


def unpicked(awaited: Sequence[Candidate]) -> str:
    """Say which files a run leaves without picks, and the way out; there must be some."""
    lacking = sorted(each.lack for each in awaited if each.lack)
    first = (lacking or sorted(str(each.job.path) for each in awaited))[0]
    number = f"{len(awaited)} files, first " if len(awaited) > 1 else ""
    once = " once whole" if lacking else ""
    return f"not picked yet: {number}{first}; the same command again picks what is left{once}"


class PassedOver(NamedTuple):
    """A file that is left alone as long as another one is there."""

    origin: WatchedInput
    path: str
    job: Job


class Known:
    """The files that have come, and to which of them the outputs of each stem belong."""

    def __init__(self) -> None:
        self.fresh: deque[Found] = deque()
        """Found, but not looked at yet."""
        self.seen: dict[str, Awaited | Given | None] = {}
        """By path; None is passed over."""
        self.waiting: set[str] = set()
        """The paths without which the run does not end."""
        self.owners: dict[str, str] = {}
        """The path to which each stem belongs."""
        self.in_hand: dict[str, str] = {}
        """The path of each job that was given, by stem."""
        self.sums = Sums()
        self._files: dict[str, str] = {}
        self._passed_over: dict[str, list[PassedOver]] = {}  # by the path of the other one

    def is_new(self, path: str) -> bool:
        """Take a path in; whether it leads to a file that is neither known nor passed over."""
        if path in self.seen:
            return False
        self.seen[path] = None
        return not self.seen.get(self._files.setdefault(os.path.abspath(path), path))  # noqa: PTH100 - many

    def awaited(self) -> dict[str, Awaited]:
        """What is not whole yet or has not had its turn, by path."""
        return {path: each for path in self.waiting if isinstance(each := self.seen[path], Awaited)}

    def pass_over(self, file: PassedOver, instead: str) -> None:
        """Leave a file alone as long as the path `instead` is there."""
        self.seen[file.path] = None
        self.waiting.discard(file.path)
        if self.owners.get(str(file.job.stem)) == file.path:
            del self.owners[str(file.job.stem)]
        self._passed_over.setdefault(instead, []).append(file)

    def takes(self, origin: WatchedInput, path: str, job: Job, is_finished: bool) -> bool:
        """Whether this is the only sum of its movie so far, or the best of them, and no other is
        given yet. One that an earlier run has picked is the best.
        """
        taken = self.sums.taken(path)
        if taken == path:
            return True
        other = self.seen.get(taken)
        if isinstance(other, Awaited) and (self.sums.is_better(path) or is_finished):
            self.pass_over(PassedOver(other.origin, taken, other.job), path)
            self.sums.take(path, instead_of=taken)
            return True
        self.pass_over(PassedOver(origin, path, job), taken)
        self.sums.take(taken, instead_of=path)
        return False

    def gives_way(self, owner: str, job: Job) -> bool:
        """Whether the outputs of a stem are better given to another job: the owner is never picked,
        as a movie that came first, or it is gone from its folder and the other is there.
        """
        if str(job.stem) in self.in_hand or is_never_picked(job.path):
            return False
        known = self.seen[owner]
        is_missed = isinstance(known, Awaited) and known.expected
        is_replaced = not is_missed and Path(owner).parent == job.path.parent and os.path.lexists(job.path)
        return (is_replaced and not os.path.lexists(owner)) or is_never_picked(Path(owner))

    def displace(self, owner: str, path: str, job: Job) -> Failure | None:
        """Give the outputs of a stem to another path; tell of the owner, if it is there."""
        known = self.seen[owner]
        told: Failure | None = None
        if os.path.lexists(owner) and known is not None:
            self.sums.forget(owner)
            self.pass_over(PassedOver(known.origin, owner, known.origin.job(owner)), path)
            told = failure_of(owner, clash(Path(path), replace(job, path=Path(owner))))
        else:
            self.forget(owner, str(job.stem))
        self.owners[str(job.stem)] = path
        return told

    def named(self, failure: Failure | None, path: str) -> Failure | None:
        """A failure of a file; by its path, where the outputs of its stem are those of another."""
        if failure is None or self.owners.get(failure.stem) in (None, path):
            return failure
        return replace(failure, stem=path)

    def forget(self, path: str, stem: str) -> None:
        """Let go of a file that is gone; what was passed over as long as it was there has its turn
        now.
        """
        del self.seen[path]
        if self.owners.get(stem) == path:
            del self.owners[stem]
        self.waiting.discard(path)
        self.sums.forget(path)
        self._release(path, lambda file: True)

    def release_successors(self, path: str) -> None:
        """Give their turn to those for which a file that cannot be looked at now gives way."""

        def succeeds(file: PassedOver) -> bool:
            return self.owners.get(str(file.job.stem)) == path and self.gives_way(path, file.job)

        self._release(path, succeeds)

    def judge_again(self, path: str) -> None:
        """Give its turn to a path that was passed over."""
        for instead, files in list(self._passed_over.items()):
            if any(file.path == path for file in files):
                self._release(instead, lambda file: file.path == path)

    def _release(self, instead: str, chosen: Callable[[PassedOver], bool]) -> None:
        files = self._passed_over.pop(instead, [])
        released = [file for file in files if chosen(file)]
        kept = [file for file in files if file not in released]
        if kept:
            self._passed_over[instead] = kept
        for file in released:
            del self.seen[file.path]
            self.sums.forget(file.path)
            self.fresh.append((file.origin, file.path))


class Rounds:
    """Whose turn it is, of the files that were given, to be looked at again."""

    def __init__(self) -> None:
        self.unchecked: deque[str] = deque()
        """Finished by an earlier run, but perhaps changed since: they come first."""
        self._round: Iterator[str] = iter(())

    def some(self, seen: Mapping[str, Awaited | Given | None]) -> Iterator[tuple[str, Given]]:
        """The next ones, with their paths."""
        for _ in range(RECHECKED):
            path = self.unchecked.popleft() if self.unchecked else next(self._round, None)
            if path is None:
                self._round = iter(list(seen))
                return
            given = seen.get(path)
            if isinstance(given, Given):
                yield path, given
