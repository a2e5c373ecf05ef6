"""What many ask for at the same time is read once."""

import asyncio
import threading

import pytest

from gtpick_rt.monitor.cache import ResultCache


def test_what_many_ask_for_at_once_is_read_once() -> None:
    read: list[int] = []
    hold = threading.Event()

    def slow() -> int:
        hold.wait(20)
        read.append(1)
        return 7

    async def ask() -> list[int]:
        kept: ResultCache[int] = ResultCache(2)
        asking = [asyncio.create_task(kept.get("a", slow)) for _ in range(50)]
        await asyncio.sleep(0.01)
        asking.pop().cancel()  # one goes away
        hold.set()
        return await asyncio.gather(*asking, kept.get("a", slow))

    assert asyncio.run(ask()) == [7] * 50
    assert read == [1]


def test_the_oldest_is_forgotten_first() -> None:
    read: list[str] = []

    async def ask() -> None:
        kept: ResultCache[None] = ResultCache(2)
        for key in "abcba":
            await kept.get(key, lambda key=key: read.append(key))

    asyncio.run(ask())
    assert read == ["a", "b", "c", "a"]


def test_what_could_not_be_read_is_tried_again() -> None:
    answers = iter([OSError("no"), 3])

    def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask() -> int:
        kept: ResultCache[int] = ResultCache(2)
        with pytest.raises(OSError, match="no"):
            await kept.get("a", read)
        return await kept.get("a", read)

    assert asyncio.run(ask()) == 3
