"""The line that shows how far a run is, at any width of the terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

BAR, REMAINING = 8, 8
"""Letters that they take."""
FIELDS = ("picks", "behind", "each", "rate", "by")
"""What is told of a task after the count, the most important first."""


def progress_bar(console: Console) -> Progress:
    """Make a bar whose tasks have `FIELDS`; what the width has no room for is left out, not cut."""
    columns = (BarColumn(BAR), _Told(console), _Remaining())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class _Told(ProgressColumn):
    """How many of how many, and as many of the fields as there is room for."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """Write it."""
        told, room = f"{task.completed:.0f}", self._console.width - BAR - 2
        if task.total is not None:
            told, room = f"{told}/{task.total:.0f}", room - REMAINING
        for words in filter(None, (task.fields[name] for name in FIELDS)):
            if len(told) + len(words) + 2 > room:
                break
            told += f", {words}"
        return Text(told)


class _Remaining(TimeRemainingColumn):
    """How long it will take, where it is known how much there is."""

    def render(self, task: Task) -> Text:
        """Write it."""
        return Text() if task.total is None else super().render(task)
