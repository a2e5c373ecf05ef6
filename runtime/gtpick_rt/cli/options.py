"""What several commands share: arguments and exit codes."""

import math
from typing import Annotated

import typer

EXIT_USAGE = 1
EXIT_SOME_FAILED = 3
EXIT_SIGNAL = 128
"""Plus the number of the signal that ended the run: 130 for Ctrl-C, 143 for SIGTERM."""


def finite(value: float | None) -> float | None:
    """Refuse the numbers "nan" and "inf", which pass every comparison with a limit."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Micrographs: folders, files, globs or STAR files.")]
PixelSize = Annotated[
    float | None,
    typer.Option(min=0.01, callback=finite, help="Å per pixel, instead of what STAR files or image headers say."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Look in subfolders too.")]
