"""What has happened in an output folder so far."""

import bisect
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtpick_rt.following.clock import RunClock
from gtpick_rt.following.logs import Heads, Increment, Logs, holder_lives
from gtpick_rt.following.records import (
    ADAPTATION,
    BEGUN,
    FAILED,
    PICKED,
    RETHRESHOLDED,
    Entry,
    Event,
    Problem,
    amount_or_none,
    count,
    entry_of,
    learning_from,
    made_otherwise,
    problem_of,
    read_event,
    shard_of,
)
from gtpick_rt.following.status import IDLE, RUNNING, STALLED, Status, facts_of, left_by
from gtpick_rt.following.throughput import Throughput, median_picks, quantile
from gtpick_rt.following.workers import Workers
from gtpick_rt.output.layout import summary_path

_IDLE_S = 60.0
"""A run that does nothing for so long is idle or, when there is something to do, stalled."""
_PATIENCE = 20.0
"""It is not stalled before so many times the usual seconds per micrograph."""
_SIGN_S = 300.0
"""A run writes its summary far more often than that, also when it has nothing to do."""


class History:
    """What has happened in an output folder so far; it may be empty, or not be there yet.

    For one thread; but `read`, which waits for the disk, may be called in others.
    """

    def __init__(self, out: Path, clock: Callable[[], float] = time.time) -> None:
        self.out, self._clock = out, RunClock(clock)
        self._logs, self._heads = Logs(out), Heads(summary_path(out), out)
        self._ids: dict[str, int] = {}
        self._lives: bool | None = False
        self._sign: float | None = None  # when the run was seen to write something, by our clock
        self.summary: Mapping[str, Any] = {}
        """What summary.json says; empty as long as there is none."""
        self._forget()

    def _forget(self) -> None:
        self.entries: list[Entry] = []
        """All micrographs that are picked, by id."""
        self._failed: dict[str, Problem] = {}
        self.picks = 0
        """On all of them."""
        self.flags: Counter[str] = Counter()
        self.version = 0
        """Changes with every change of the above."""
        self._throughput = Throughput()
        self._workers = Workers()
        self._begun: Event | None = None
        self._backlogs: dict[str, int] = {}  # of each shard, or of the one run under ""
        self._last_event: float | None = None
        self._learning_from: int | None = None
        self._waits_since = 0.0  # since when it has had something to do and has done nothing

    @property
    def failures(self) -> list[Problem]:
        """All micrographs that failed last time, by id."""
        return sorted(self._failed.values(), key=_id_of)

    @property
    def behind(self) -> bool:
        """Whether there is more to be read at once."""
        return self._logs.behind

    def catch_up(self) -> None:
        """Read all that there is."""
        self.update()
        while self.behind:
            self.update()

    def update(self) -> list[Entry]:
        """Read what the folder has gained, a bounded part of it, and give the micrographs that were
        picked.
        """
        return self.take(self.read())

    def read(self) -> Increment:
        """Read it, without taking it in."""
        anew, lines = self._logs.read()
        summary, shards = (None, {}) if self._logs.behind else self._heads.read()
        return Increment(anew, lines, summary, shards, self._heads.shared, holder_lives(self.out))

    def take(self, increment: Increment) -> list[Entry]:
        """Take in what was read, and give the micrographs that were picked."""
        if increment.anew:
            self._forget()
        events = [event for event in map(read_event, increment.lines) if event is not None]
        self._clock.hear([event.time for event in events] + increment.written, self.behind)
        picked = [entry for entry in map(self._take_event, events) if entry is not None]
        self._take_summaries(increment)
        if self._sign is None:
            self._sign = self._heads.mtime or 0.0
        elif increment.lines or increment.summary or increment.shards:
            self._sign = self._clock.here()
        self._lives = increment.lives
        return picked

    def _take_summaries(self, increment: Increment) -> None:
        if increment.summary is not None:
            self.summary = increment.summary
            if not increment.shared:
                self._backlogs = dict.fromkeys(self._backlogs, 0)
                self._take_backlog(increment.summary.get("backlog"), self._clock.now())
        for shard, summary in increment.shards.items():
            self.summary = self.summary or summary
            self._take_backlog(summary.get("backlog"), self._clock.now(), shard)

    def _take_event(self, event: Event) -> Entry | None:
        entry: Entry | None = None
        if event.state == PICKED:
            entry = self._take_entry(event)
        elif event.state == FAILED:
            self._take_problem(event)
        elif event.state == BEGUN:
            self._begin(event)
        elif event.state == RETHRESHOLDED:
            self._take_threshold(event)
        elif event.state in ADAPTATION:
            self._learning_from = learning_from(event)
        if event.backlog is not None:
            self._take_backlog(event.backlog, event.time, str(shard_of(event) or ""))
        return entry

    def _begin(self, event: Event) -> None:
        """A run tries again what failed, a shard what failed of its share; picks made otherwise are
        none of its own.
        """
        if self._begun is not None and made_otherwise(self._begun, event):
            self._forget()
        self._begun, self._learning_from, shard = event, None, shard_of(event)
        self._failed = {stem: each for stem, each in self._failed.items() if shard and not shard.holds(stem)}
        self._workers.begin(event)
        if shard is None:
            self._backlogs.clear()
        self.version += 1
        self._waits_since = event.time

    def _take_entry(self, event: Event) -> Entry | None:
        entry = entry_of(event, self._id(event))
        if entry is None:
            return None
        self._drop(entry.stem)
        if self.entries and entry.id < self.entries[-1].id:
            bisect.insort(self.entries, entry, key=_id_of)
        else:
            self.entries.append(entry)
        self._count(entry, 1)
        self._done(event)
        self._throughput.add(event, self._begun, entry)
        return entry

    def _take_problem(self, event: Event) -> None:
        problem = problem_of(event, self._id(event))
        if problem is not None:
            self._drop(problem.stem)
            self._failed[problem.stem] = problem
            self.version += 1
            self._done(event)
            self._throughput.add(event, self._begun)

    def _take_threshold(self, event: Event) -> None:
        position = self._position(self._ids.get(str(event.line.get("stem")), -1))
        if position is None:
            return
        before = self.entries[position]
        try:
            score = amount_or_none(event.line.get("median_score"))
            now = replace(before, picks=count(event.line.get("picks")), median_score=score)
        except ValueError:
            return
        self._count(before, -1)
        self.entries[position] = now
        self._count(now, 1)

    def _done(self, event: Event) -> None:
        self._workers.count(event)
        self._last_event = max(self._last_event or 0.0, event.time)
        self._waits_since = max(self._waits_since, event.time)

    @property
    def _backlog(self) -> int:
        return sum(self._backlogs.values())

    def _take_backlog(self, backlog: object, at: float, part: str = "") -> None:
        if isinstance(backlog, int) and backlog >= 0:
            if backlog and not self._backlog:
                self._waits_since = max(self._waits_since, at)
            self._backlogs[part] = backlog

    def _id(self, event: Event) -> int:
        stem = event.line.get("stem")
        return self._ids.setdefault(stem, len(self._ids)) if isinstance(stem, str) else -1

    def _drop(self, stem: str) -> None:
        """Forget what was known of a micrograph."""
        self._failed.pop(stem, None)
        position = self._position(self._ids[stem])
        if position is not None:
            self._count(self.entries.pop(position), -1)

    def _count(self, entry: Entry, sign: int) -> None:
        self.version += 1
        self.picks += sign * entry.picks
        for flag in entry.flags:
            self.flags[flag] += sign

    def _position(self, number: int) -> int | None:
        if not self.entries or number > self.entries[-1].id:  # as all that are new
            return None
        position = bisect.bisect_left(self.entries, number, key=_id_of)
        return position if position < len(self.entries) and self.entries[position].id == number else None

    def entry(self, number: int) -> Entry | None:
        """The micrograph of this id, if it is picked."""
        position = self._position(number)
        return None if position is None else self.entries[position]

    def failure(self, number: int) -> Problem | None:
        """The micrograph of this id, if it failed."""
        return next((problem for problem in self._failed.values() if problem.id == number), None)

    def status(self) -> Status:
        """How the run is doing now."""
        now = self._clock.now()
        state = self._state(now)
        goes_on = state in (RUNNING, IDLE, STALLED)
        end = now if goes_on else self._last_event or now
        average = self._throughput.average(self.picks / max(len(self.entries), 1))
        files_per_hour, picks_per_hour = self._throughput.now(self._begun, now, self.entry)
        if average is not None and not goes_on:
            files_per_hour, picks_per_hour = average.files_per_hour, average.picks_per_hour
        lags_s = self._throughput.lags_s
        return Status(
            state=state,
            done=len(self.entries),
            failed=len(self._failed),
            backlog=self._backlog,
            picks=self.picks,
            flags={flag: n for flag, n in self.flags.most_common() if n},
            files_per_hour=files_per_hour,
            picks_per_hour=picks_per_hour,
            average=average,
            lag_p50_s=quantile(lags_s, 0.5),
            lag_p95_s=quantile(lags_s, 0.95),
            picks_per_micrograph=median_picks(self.entries),
            seconds_per_micrograph=self._throughput.seconds,
            stage_seconds=self._throughput.stage_seconds,
            last_event_age_s=None if self._last_event is None else max(now - self._last_event, 0.0),
            learning_from=self._learning_from if goes_on else None,
            workers=self._workers.status(self.summary, end, goes_on),
            **vars(facts_of(self.summary, self._begun)),
        )

    def _state(self, now: float) -> str:
        silent_s = now - self._waits_since
        writes = self._clock.here() - (self._sign or 0.0) < _SIGN_S
        alive = writes if self._lives is None else self._lives
        if not alive:
            return left_by(self._begun is not None, bool(self.entries or self._failed), self._backlog)
        mute = self._heads.mtime is not None and not writes and self._learning_from is None
        if mute or (self._backlog and silent_s > max(_IDLE_S, _PATIENCE * (self._throughput.seconds or 0.0))):
            return STALLED
        return RUNNING if silent_s < _IDLE_S or self._backlog or self._learning_from else IDLE


def _id_of(each: Entry | Problem) -> int:
    return each.id
