"""A part of what arrives, where others pick the rest."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.source import Arrival, Source
from gtpick_rt.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share `number`, counted from 1, of `of` shares.

    Which one a micrograph belongs to depends on its name alone.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read the value of --shard. Raises UsageError."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}: give i/n, with i from 1 to n, as in --shard 3/8")
        return cls(int(found[1]), int(found[2]))

    def holds(self, stem: PurePosixPath | str) -> bool:
        """Whether the micrograph with outputs of this name belongs to it."""
        digest = hashlib.blake2b(str(stem).encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class ShardSource:
    """What a source brings of the micrographs that are held, by the names of their outputs: one of
    `of` shares.
    """

    def __init__(self, source: Source, holds: Callable[[str], bool], of: int) -> None:
        self._source, self._holds, self._of = source, holds, of
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done

    @property
    def backlog(self) -> int:
        """About how many micrographs of this share are known and not done yet: many are known by
        their paths alone.
        """
        return math.ceil(self._source.backlog / self._of)

    def __iter__(self) -> Iterator[Arrival | None]:
        for arrival in self._source:
            if arrival is None or self._holds(str(arrival.stem)):
                yield arrival
            elif isinstance(arrival, Job):
                self._source.done(arrival)
