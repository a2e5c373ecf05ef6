"""What was read lately, once for all who ask at the same time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


class ResultCache(Generic[T]):
    """The last `most` things that were read; one that could not be read is tried again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reading: OrderedDict[Hashable, asyncio.Task[T]] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What is kept under `key`, or what `read` gives, which is called in a thread.

        Raises what `read` raises.
        """
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(run_in_threadpool(read))
            if len(self._reading) > self._most:
                self._reading.popitem(last=False)
        try:
            return await asyncio.shield(task)  # who goes away does not end it for the others
        except Exception:
            self._reading.pop(key, None)
            raise
