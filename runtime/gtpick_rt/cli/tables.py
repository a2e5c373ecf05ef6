"""Tables whose names stay whole at any width of the terminal."""

from collections.abc import Iterator, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write a table line by line: numbers in columns, and names last, which may be long."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)][:-1]
    for *numbers, name in (header, *rows):
        cells = (f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        yield "  ".join((*cells, name))
