"""What the commands that learn show while they work, for minutes on a busy machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10
"""That tell how far a step is, where no bar can be drawn anew."""


class Tell(Protocol):
    """Told what is being done and, where that can be counted, how much of it is."""

    def __call__(self, doing: str, done: int = 0, of: int | None = None) -> None:
        """Show it."""
        ...


@contextmanager
def progress() -> Iterator[Tell]:
    """Show a bar on stderr; where that cannot be drawn anew, a line for all that begins, and some
    that count.
    """
    console, last = Console(stderr=True), ""
    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[count]}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_interactive, transient=True
    ) as bar:
        task = bar.add_task("", total=None, count="")

        def tell(doing: str, done: int = 0, of: int | None = None) -> None:
            nonlocal last
            count = f"{done} of {of}" if done else ""
            if bar.disable and (doing != last or (of and done % max(1, of // LINES) == 0)):
                console.print(f"{doing} {count or '...'}", markup=False, highlight=False, soft_wrap=True)
            elif doing != last:
                bar.reset(task)
            bar.update(task, description=doing, completed=done, total=of, count=count)
            last = doing

        yield tell
