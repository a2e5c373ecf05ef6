"""Reads the output folder once for all who watch, and tells each of them what is new."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from gtpick_rt.following.history import History
from gtpick_rt.following.status import Status
from gtpick_rt.monitor.rows import row_of, status_row, to_json

POLL_S = 0.3
STATUS_S = 2.0
_LATEST = 24
"""New micrographs that a viewer is told of at a time; who was slower looks at the list."""


class _Told(NamedTuple):
    number: int
    event: str
    data: str


class Feed:
    """Follows a history in one task, however many watch."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._picked: deque[_Told] = deque(maxlen=_LATEST)
        self._shown: Status | None = None
        self._number = 0
        self._status_due = 0.0
        self._news = asyncio.Event()
        self._tell_status()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow as long as this is entered."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self) -> None:
        while True:
            before = self._number
            picked = self._history.take(await run_in_threadpool(self._history.read))
            if not self._history.behind:  # what is read of the past at the start is no increment
                self._picked.extend(self._tell("picked", row_of(entry)) for entry in picked[-_LATEST:])
            self._tell_status()
            if self._number != before:
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(0 if self._history.behind else POLL_S)

    def _tell_status(self) -> None:
        """Tell the status when it is time, and when it is another; the age of the last event grows
        by itself.
        """
        now = time.monotonic()
        if now < self._status_due:
            return
        self._status_due = now + STATUS_S
        status = self._history.status()
        unaged = replace(status, last_event_age_s=None)
        if unaged != self._shown:
            self._shown = unaged
            self._status: _Told = self._tell("status", status_row(status))

    def _tell(self, event: str, value: object) -> _Told:
        self._number += 1
        return _Told(self._number, event, to_json(value).decode())

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """What one viewer is told: the status, and from now on all that is new."""
        told = self._number
        yield ServerSentEvent(to_json(status_row(self._history.status())).decode(), event="status")
        while True:
            before, told, increment = told, self._number, self._news
            for each in [each for each in (*self._picked, self._status) if each.number > before]:
                yield ServerSentEvent(each.data, event=each.event)
            await increment.wait()
