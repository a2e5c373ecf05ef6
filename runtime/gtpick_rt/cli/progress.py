"""The line that shows how far a run is, at any width of the terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

BAR, REMAINING = 8, 8
"""Letters that they take."""
FIELDS = ("picks", "behind", "each", "rate", "by")
"""What is told of a task after the counts, the most important first."""


def progress_bar(console: Console) -> Progress:
    """Make a bar whose tasks have `FIELDS` and, as `failed`, how many of what is completed failed;
    what the width has no room for is left out, not cut.

    There is none where a line cannot be drawn anew, as on a dumb terminal.
    """
    columns = (BarColumn(BAR), _Told(console), _Remaining())
    return Progress(*columns, console=console, disable=not console.is_interactive)


def told_of(task: Task, room: int) -> str:
    """How many of how many are done, how many failed, and as many of the fields as there is room
    for, in letters.
    """
    failed = task.fields["failed"]
    told = f"{task.completed - failed:.0f}"
    if task.total is not None:
        told = f"{told}/{task.total:.0f}"
    for words in filter(None, (f"{failed} failed" if failed else "", *(task.fields[name] for name in FIELDS))):
        if len(told) + len(words) + 2 > room:
            break
        told += f", {words}"
    return told


class _Told(ProgressColumn):
    """What is told of a task."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """Write it."""
        after = 1 if task.total is None else REMAINING  # a column is never narrower
        return Text(told_of(task, self._console.width - BAR - 2 - after))


class _Remaining(TimeRemainingColumn):
    """How long it will take, where it is known how much there is."""

    def render(self, task: Task) -> Text:
        """Write it."""
        return Text() if task.total is None else super().render(task)
