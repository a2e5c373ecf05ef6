"""Warnings that many micrographs share are shown once, and counted."""

from collections.abc import Iterable, Iterator

from gtpick_rt.records import counted


class Warned:
    """The warnings of a run."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def show(self, path: str, warnings: Iterable[str]) -> Iterator[str]:
        """The lines to be shown of a micrograph: those of its warnings that are new."""
        for warning in warnings:
            if warning not in self._first:
                self._first[warning] = path
                yield f"warning: {path}: {warning}"
            self._count[warning] = self._count.get(warning, 0) + 1

    def repeated(self) -> Iterator[str]:
        """How many micrographs had those that were shown of the first of them."""
        for warning, path in self._first.items():
            if (count := self._count[warning]) > 1:
                yield f"{counted(count, 'micrograph')}: the same warning, first {path}: {warning}"
