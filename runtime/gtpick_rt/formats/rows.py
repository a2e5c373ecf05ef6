"""Whether each row of a STAR file has a value for each column of its table.

A STAR file is a sequence of words, and a parser that counts them over all rows takes the surplus of
one row for the beginning of the next. Programs write a row on a line, and so it is judged; but for
tables with text fields, whose rows take several.
"""

import re
from collections.abc import Iterator, Sequence

from gtpick_rt.records import counted

WORDS = re.compile(r"""'(?:[^']|'(?![ \t\r]|$))*'|"(?:[^"]|"(?![ \t\r]|$))*"|\#.*|[^ \t\r]+""")
"""The words of a line of a STAR file: quoted ones, a comment, bare ones."""
_OUTSIDE = ("data_", "loop_", "save_", "stop_", "global_")


def check_rows(lines: Sequence[str]) -> None:
    """Raise ValueError, which names the line, where a row has more values than
    columns, or fewer.
    """
    for columns, rows in _tables(lines):
        wrong = next(((number, count) for number, count in rows if count != columns), None)
        if wrong is not None:
            number, count = wrong
            quotes = "; a value with a space in it needs quotes" if count > columns else ""
            raise ValueError(
                f"line {number} has {counted(count, 'value')}, but its table has {counted(columns, 'column')}{quotes}"
            )


def _tables(lines: Sequence[str]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Of each table without text fields: how many columns it has, and the line and the number of
    values of each row.
    """
    columns, rows, in_header, plain = 0, list[tuple[int, int]](), False, False
    for number, line in enumerate(lines, start=1):
        words = _words(line)
        if not words:
            continue
        first = words[0].lower()
        if first.startswith(_OUTSIDE) or (first.startswith("_") and not in_header):
            if plain:
                yield columns, rows
            in_header = plain = first == "loop_"
            columns, rows, words = 0, [], words[1:]
        if in_header and all(word.startswith("_") for word in words):
            columns += len(words)
        elif line.startswith(";"):
            plain = False
        elif plain:
            in_header = False
            rows.append((number, len(words)))
    if plain:
        yield columns, rows


def _words(line: str) -> list[str]:
    if line.isascii() and not any(mark in line for mark in "'\"#"):
        return line.split()
    return [word for word in WORDS.findall(line) if not word.startswith("#")]
