"""The inputs of the watcher, searched together."""

import os
from collections.abc import Container, Iterable, Iterator, Sequence

from gtpick_rt.arrivals.folders import Names
from gtpick_rt.arrivals.source import Timing
from gtpick_rt.arrivals.watched_inputs import WatchedFolder, WatchedInput, WatchedList, watched_input
from gtpick_rt.reading.info import suffix_of
from gtpick_rt.records import Failure

_SHARE_OF_TIME = 10
"""The pause between searches, in multiples of what a search takes."""

Found = tuple[WatchedInput, str] | Failure
"""A path that has come in an input, or what is to be reported of the input itself."""


class Inputs:
    """Several inputs; `finished` are the stems that an earlier run has picked.

    Lists go before others, for they know more: these wait until a list that is there has been read.
    """

    def __init__(
        self, texts: Sequence[str], recursive: bool, names: Names, timing: Timing, finished: Iterable[str]
    ) -> None:
        self.texts, self._timing = tuple(texts), timing
        several = [watched_input(text, recursive, names, timing) for text in texts]
        self._lists = [each for each in several if isinstance(each, WatchedList)]
        self._others = [each for each in several if not isinstance(each, WatchedList)]
        self._old_names = {stem.rpartition("/")[2] for stem in finished}

    @property
    def _folders(self) -> list[WatchedFolder]:
        return [each for each in self._others if isinstance(each, WatchedFolder)]

    @property
    def excluded(self) -> int:
        """How many files were left out by their names."""
        return sum(each.folder.excluded for each in self._folders)

    @property
    def links(self) -> int:
        """How many links to folders were met, and not followed."""
        return sum(each.folder.links for each in self._folders)

    @property
    def are_settling(self) -> bool:
        """Whether one of them, a list, will be read soon."""
        return any(each.is_settling for each in self._lists)

    @property
    def have_ended(self) -> bool:
        """Whether nothing more will come of any."""
        return all(each.ended for each in (*self._lists, *self._others))

    def search(self, known: Container[str], now: float) -> list[Found]:
        """What is new: first what no earlier run has picked."""
        found = [*self._new(self._lists, known, now)]
        if not any(each.is_unread for each in self._lists):
            found += self._new(self._others, known, now)
        return sorted(found, key=self._is_old)

    def _new(self, inputs: Iterable[WatchedInput], known: Container[str], now: float) -> Iterator[Found]:
        for each in inputs:
            for path in each.new(known, now):
                yield path if isinstance(path, Failure) else (each, path)

    def pause_s(self, took_s: float) -> float:
        """How long to wait after a search that took so long."""
        return min(max(self._timing.poll_s, _SHARE_OF_TIME * took_s), self._timing.longest_s)

    def _is_old(self, found: Found) -> bool:
        name = "" if isinstance(found, Failure) else os.path.basename(found[1])  # noqa: PTH119 - many
        return name[: len(name) - len(suffix_of(name))] in self._old_names

    def left(self) -> Iterator[Failure]:
        """What is to be reported of them at the end of an idle time, and was not yet."""
        for each in (*self._lists, *self._others):
            yield from each.left()
