"""Micrographs that arrive while a microscope collects: found by looking again and again.

Notification misses what another machine writes to a shared file system, without any error.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType

from gtpick_rt.arrivals.folders import DEFAULT_NAMES, Names
from gtpick_rt.arrivals.inputs import Found, Inputs
from gtpick_rt.arrivals.jobs import Job, clash, failure_of, same_file
from gtpick_rt.arrivals.known import Awaited, Given, Known, PassedOver, Rounds, job_of
from gtpick_rt.arrivals.ready import State, nothing_yet
from gtpick_rt.arrivals.source import DEFAULT_TIMING, TICK_S, WAITING, Arrival, Timing
from gtpick_rt.arrivals.stamp import Stamp, stamp_of
from gtpick_rt.arrivals.sums import LeftOut
from gtpick_rt.arrivals.watched_inputs import WatchedInput, WatchedList
from gtpick_rt.records import Failure, PickedFrom


class Watched:
    """The source of a run that goes on: everything in `inputs`, now or later, once it is whole, and
    again once changed.

    Args:
        inputs: folders, globs, files and lists of micrographs, which may grow; "-" stands for paths
            on stdin.
        recursive: look in subfolders too.
        names: choice among the files of folders and globs.
        timing: how patient to be.
        finished: from what an earlier run has picked a micrograph, by stem: it is passed over while
            that stays so.
        stop_after_idle_s: end when nothing has come, nor has what is not whole changed, for so
            long; None watches for ever.
        until: end when so many jobs are done.
        clock: seconds of a clock that only goes forward.
        wait: sleeps for some seconds.
    """

    live = True

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        recursive: bool = False,
        names: Names = DEFAULT_NAMES,
        timing: Timing = DEFAULT_TIMING,
        finished: Mapping[str, PickedFrom] = MappingProxyType({}),
        stop_after_idle_s: float | None = None,
        until: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inputs = Inputs(inputs, recursive, names, timing, finished)
        self._timing, self._finished, self._clock, self._wait = timing, finished, clock, wait
        self._idle_s, self._until, self._told_idle = stop_after_idle_s, until, False
        self._known, self._rounds = Known(), Rounds()
        self._looks: list[tuple[float, int, str]] = []  # a heap: when to look at which path
        self._turns = count()
        self._returned: deque[tuple[Job, float | None]] = deque()  # filled by other threads
        self._rechecks: Iterator[tuple[str, Given]] = iter(())
        self._done, self._searched, self._recheck_due = 0, False, False
        self._next_search = self._last_event = self._last_search = clock()

    @property
    def excluded(self) -> int:
        """How many files were left out by their names."""
        return self._inputs.excluded

    @property
    def links(self) -> int:
        """How many links to folders were met, and not followed."""
        return self._inputs.links

    @property
    def same(self) -> list[LeftOut]:
        """What is left out in place of another sum of the same movie."""
        return self._known.sums.left_out

    @property
    def backlog(self) -> int:
        """How many files are known and not done yet."""
        through = sum(at is None for _, at in list(self._returned))
        return len(self._known.fresh) + len(self._known.waiting) + len(self._known.in_hand) - through

    def awaited(self) -> list[Awaited]:
        """What has come or was named, and is not whole yet or has not had its turn."""
        return list(self._known.awaited().values())

    def again(self, job: Job, after_s: float) -> None:
        """Give a job back, to have it once more when its file is whole, not before `after_s`."""
        self._returned.append((job, self._clock() + after_s))

    def retry(self, stem: str) -> None:
        """Look again at a file that was given, though it has not changed; report one again that is
        still not whole, or whose path is given since its outputs are those of another.
        """
        self._take_back()
        self._known.judge_again(stem)
        path = self._known.owners.get(stem)
        known = None if path is None else self._known.seen.get(path)
        if path is not None and isinstance(known, Given) and stem not in self._known.in_hand:
            self._await(path, known.origin.job(path), known.origin, self._clock())
        elif path is not None and isinstance(known, Awaited):
            known.reported = False
            self._known.waiting.add(path)

    def done(self, job: Job) -> None:
        """Say that nothing more will be done with a job."""
        self._returned.append((job, None))

    def __iter__(self) -> Iterator[Arrival | None]:
        while True:
            self._take_back()
            if self._until is not None and self._done >= self._until:
                return
            arrival = self._next()
            if arrival is None and self._is_over():  # it asks all that is waited for, which may be many
                yield from self._left()
                return
            arrival = arrival or self._first_idle()
            if arrival is None:
                self._wait(self._pause_s())
            elif isinstance(arrival, Failure) and arrival.kind == WAITING:
                self._told_idle = True
            yield arrival

    def _next(self) -> Arrival | None:
        """Work until there is something to give or nothing to do, but for no longer than a tick."""
        begun = now = self._clock()
        arrival: Arrival | None = None
        while arrival is None and now - begun < TICK_S:
            may_look = self._may_look(now)
            if may_look:
                arrival = self._look(heapq.heappop(self._looks)[2], now)
            if self._known.fresh:  # whatever is due to be looked at, and the other way round: both may be many
                arrival = arrival or self._admit(self._known.fresh.popleft(), now)
            elif now >= self._next_search:
                self._search(now)
            elif self._recheck_due:
                self._recheck(now)
            elif not may_look:
                break
            now = self._clock()
        return arrival

    def _first_idle(self) -> Failure | None:
        """Tell once that there is nothing to do, and what is waited for."""
        if self._is_busy or self._known.waiting or self._told_idle or self._inputs.have_ended:
            return None
        self._told_idle = True
        return nothing_yet(self._inputs.texts, sum(map(bool, self._known.seen.values())), self.excluded)

    @property
    def _is_busy(self) -> bool:
        """Whether something is to be done that is there, beside what is waited for."""
        begun = self._known.fresh or self._known.in_hand or self._rounds.unchecked
        return not self._searched or bool(begun) or self._inputs.are_settling

    def _may_look(self, now: float) -> bool:
        held_back = self._until is not None and self._done + len(self._known.in_hand) >= self._until
        return bool(self._looks) and now >= self._looks[0][0] and not held_back

    def _pause_s(self) -> float:
        now = self._clock()
        if self._known.fresh or self._recheck_due or self._may_look(now):
            return 0.0
        soonest = min([self._next_search] + [at for at, *_ in self._looks[:1] if at > now])
        return min(max(0.0, soonest - now), TICK_S)

    def _is_over(self) -> bool:
        if self._is_busy or any(not each.is_stuck for each in self.awaited()):
            self._last_event = self._clock()
            return False
        if self._idle_s is not None and self._last_search - self._last_event >= self._idle_s:
            return True
        return not self._known.waiting and self._inputs.have_ended

    def _left(self) -> Iterator[Failure]:
        """What is still not whole at the end of an idle time."""
        left = self._known.awaited().items()
        yield from filter(None, [self._known.named(each.give_up(), path) for path, each in left])
        yield from self._inputs.left()
        self._known.waiting.clear()

    def _search(self, now: float) -> None:
        """Find new names, which is quick: nothing is looked at."""
        self._last_search = now
        self._known.fresh.extend(self._inputs.search(self._known.seen, now))
        took_s = self._clock() - now
        self._next_search = now + took_s + self._inputs.pause_s(took_s)
        if not self._recheck_due:
            self._rechecks = self._rounds.some(self._known.seen)
        self._searched = self._recheck_due = True

    def _admit(self, found: Found, now: float) -> Failure | None:
        """Begin to wait for a file, unless it is finished or cannot become a micrograph."""
        if isinstance(found, Failure):
            return found
        origin, path = found
        if not self._known.is_new(path):
            return None
        job = job_of(origin, path)
        if isinstance(job, Failure):
            return job
        return self._claim(path, job, origin, now)

    def _claim(self, path: str, job: Job, origin: WatchedInput, now: float, is_whole: bool = False) -> Failure | None:
        """Take a file in if the outputs of its stem belong to it. Those of another may have become
        free when it is whole: it may be that one, compressed.
        """
        owner = self._known.owners.setdefault(str(job.stem), path)
        told: Failure | None = None
        if owner == path:
            self._take_in(path, job, origin, now)
        elif same_file(owner, path):
            self._known.pass_over(PassedOver(origin, path, job), owner)
        elif self._known.gives_way(owner, job):
            told = self._known.displace(owner, path, job)
            self._take_in(path, job, origin, now)
        elif is_whole and str(job.stem) not in self._known.in_hand:
            self._known.pass_over(PassedOver(origin, path, job), owner)
            told = failure_of(path, clash(Path(owner), job))
        else:
            self._await(path, job, origin, now, at=now + TICK_S)
        return told

    def _take_in(self, path: str, job: Job, origin: WatchedInput, now: float) -> None:
        """Wait for a file to which the outputs of its stem belong, unless another sum is taken or
        it is finished.
        """
        before = self._finished.get(str(job.stem))
        named = isinstance(origin, WatchedList)
        if not named and not self._known.takes(origin, path, job, is_finished=before is not None):
            return
        if before is not None and before.is_at(job.pixel_size_A):
            self._known.seen[path] = Given(origin, Stamp(before.size, before.mtime_ns))
            self._rounds.unchecked.append(path)
        else:
            self._await(path, job, origin, now)

    def _await(self, path: str, job: Job, origin: WatchedInput, now: float, at: float = 0.0) -> None:
        self._known.seen[path] = Awaited(job, origin.settle_s, origin.expects, since=now, origin=origin)
        self._known.waiting.add(path)
        heapq.heappush(self._looks, (max(at, now), next(self._turns), path))

    def _look(self, path: str, now: float) -> Arrival | None:
        """Look at a file that is waited for."""
        awaited = self._known.seen.get(path)
        if not isinstance(awaited, Awaited):
            return None  # left out meanwhile
        state = awaited.look(now, self._timing)
        if awaited.since == now:
            self._last_event = now
        if state is State.READY and self._known.owners.get(str(awaited.job.stem)) != path:
            return self._claim(path, awaited.job, awaited.origin, now, is_whole=True)
        if state is State.READY and (stamp := awaited.stamp) is not None:
            self._known.seen[path] = Given(awaited.origin, stamp)
            self._known.waiting.discard(path)
            self._known.in_hand[str(awaited.job.stem)] = path
            return awaited.job
        if state is State.GONE:
            self._known.forget(path, str(awaited.job.stem))
            return None
        failure = self._known.named(awaited.report(now, self._timing), path)
        if awaited.reported:
            self._known.waiting.discard(path)
        heapq.heappush(self._looks, (awaited.next_look(now, self._timing), next(self._turns), path))
        return failure

    def _take_back(self) -> None:
        while self._returned:
            job, at = self._returned.popleft()
            path = self._known.in_hand.pop(str(job.stem), None)
            given = self._known.seen.get(path) if path is not None else None
            if path is None or not isinstance(given, Given):
                continue
            if at is None:
                self._done += 1
            else:
                self._await(path, job, given.origin, self._clock(), at)

    def _recheck(self, now: float) -> None:
        """Look again at some of the files that were given, for no longer than a tick at a time."""
        for path, given in self._rechecks:
            if path not in self._known.in_hand.values():
                try:
                    if not stamp_of(path).is_still(given.stamp):
                        self._await(path, given.origin.job(path), given.origin, now)
                except OSError:
                    self._known.release_successors(path)
            if self._clock() - now >= TICK_S:
                return
        self._recheck_due = False
