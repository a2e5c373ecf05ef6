"""`gtpick-rt evaluate`: precision, recall, F1 and AP of picks against labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.options import finite
from gtpick_rt.errors import UsageError

if TYPE_CHECKING:
    from gtpick_rt.evaluate import Evaluation

SUFFIXES = (".star", ".csv")
LISTS = ("autopick.star",)
"""Files in an output folder that hold no coordinates."""


def evaluate(
    picks: Annotated[
        Path, typer.Argument(metavar="PICKS", help="STAR or CSV file of picks, or a folder of such files.")
    ],
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="The same of labels; folders are paired by the names of their files."),
    ],
    diameter: Annotated[float, typer.Option(min=0, callback=finite, help="Particle diameter in Å.")],
    pixel_size: Annotated[
        float,
        typer.Option(min=0, callback=finite, help="Å per pixel of the coordinates; without it, lengths are in pixels."),
    ] = 1.0,
    radius: Annotated[
        float | None,
        typer.Option(min=0, callback=finite, help="Matching radius in Å; by default a third of the diameter."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Compare picks with labels: precision, recall, F1, average precision, by one-to-one matching within a radius."""
    from gtpick_rt.evaluate import evaluate as compare
    from gtpick_rt.formats import read_coordinate_set

    if not (diameter > 0 and pixel_size > 0 and (radius is None or radius > 0)):
        raise UsageError("--diameter, --pixel-size and --radius must be greater than 0")
    pairs, ignored = pair_files(picks, labels)
    diameter_px = diameter / pixel_size
    radius_px = diameter_px / 3 if radius is None else radius / pixel_size
    found = read_coordinate_set([pick for pick, _ in pairs], diameter_px)
    wanted = read_coordinate_set([label for _, label in pairs], diameter_px)
    figures = compare(list(zip(found, wanted, strict=True)), radius_px)
    _print(figures, radius_px, diameter_px)
    for path in ignored:
        typer.echo(f"ignored, for want of a counterpart: {path}", err=True)
    if json_file is not None:
        _write_json(json_file, figures, radius_px, diameter_px)


def pair_files(picks: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair two files, or the files of two folders (and below) that have one name but for suffix and `_autopick`.

    Returns the pairs and the files without a counterpart. Raises UsageError when there is no pair, or when one folder
    has a name twice.
    """
    if picks.is_file() and labels.is_file():
        return [(picks, labels)], []
    found, wanted = _coordinate_files(picks), _coordinate_files(labels)
    pairs = [(found[stem], wanted[stem]) for stem in sorted(found.keys() & wanted.keys())]
    if not pairs:
        raise UsageError(
            f"no file of {picks} has the name of one of {labels}; a.star or a_autopick.star goes with a.star or a.csv"
        )
    alone = [
        *(found[stem] for stem in found.keys() - wanted.keys()),
        *(wanted[stem] for stem in wanted.keys() - found.keys()),
    ]
    return pairs, sorted(alone)


def _coordinate_files(path: Path) -> dict[str, Path]:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    files: dict[str, Path] = {}
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        hidden = file != path and any(part.startswith(".") for part in file.relative_to(path).parts)
        if hidden or file.suffix.lower() not in SUFFIXES or file.name in LISTS:
            continue
        stem = file.stem.removesuffix("_autopick")
        other = files.setdefault(stem, file)
        if other != file:
            raise UsageError(f"{other} and {file} have the same name; evaluate their folders one at a time")
    return files


def _print(figures: "Evaluation", radius_px: float, diameter_px: float) -> None:
    from rich.console import Console
    from rich.table import Table

    error = figures.centre_error_px
    table = Table(box=None, show_header=False)
    for name, value in (
        ("micrographs", f"{figures.micrographs}"),
        ("picks", f"{figures.picks}"),
        ("labels", f"{figures.labels}"),
        ("matches", f"{figures.matches}"),
        ("precision", f"{figures.precision:.3f}"),
        ("recall", f"{figures.recall:.3f}"),
        ("F1", f"{figures.f1:.3f}"),
        ("F1, mean of micrographs", f"{figures.mean_f1:.3f}"),
        ("average precision", f"{figures.average_precision:.3f}"),
        ("median centre error", "-" if error is None else f"{error:.1f} px"),
    ):
        table.add_row(name, value)
    Console().print(table)
    typer.echo(f"one-to-one matching within {radius_px:.1f} px ({radius_px / diameter_px:.2f} of the diameter)")


def _write_json(path: Path, figures: "Evaluation", radius_px: float, diameter_px: float) -> None:
    import dataclasses
    import json

    from gtpick_rt.commit import write_atomic

    record = {
        "matching": "one-to-one, most matches, then least total distance",
        "radius_px": radius_px,
        "diameter_px": diameter_px,
        **dataclasses.asdict(figures),
    }
    try:
        write_atomic(path, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
