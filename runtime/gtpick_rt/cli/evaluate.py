"""`gtpick-rt evaluate`: how good picks are against labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.files import need_plot, write_file
from gtpick_rt.cli.options import EXIT_SOME_FAILED, finite
from gtpick_rt.errors import UsageError
from gtpick_rt.records import counted, printable

if TYPE_CHECKING:
    from rich.table import Table

    from gtpick_rt.evaluate.calibration import Calibration
    from gtpick_rt.evaluate.report import Lengths, MicrographFigures, Report

MAX_ROWS = 40
"""Micrographs that are listed; of more, those with the lowest F1."""
MAX_NAMED = 5
"""Names in a note."""


def evaluate(
    picks: Annotated[
        Path,
        typer.Argument(
            metavar="PICKS",
            help="A folder of .star, .csv, .box or .cbox files, one per micrograph; or one such file; or a list of "
            "many micrographs: .star, also RELION's autopick.star, Topaz's .txt, cryoSPARC's .cs.",
        ),
    ],
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="The same of labels; micrographs are paired by name.")
    ],
    diameter: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="LENGTH",
            callback=finite,
            help="Particle diameter: in Å where the pixel size is known, else in pixels.",
        ),
    ],
    pixel_size: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="Å",
            callback=finite,
            help="Å per pixel of the coordinates; by default what picks or labels say.",
        ),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="LENGTH",
            callback=finite,
            help="Matching radius, in the diameter's unit; by default a third of the diameter.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            callback=finite,
            help="Count picks of at least this score, in the scores of the file; by default all. The curve and the "
            "calibration take all in any case. A .cbox and Topaz's lists go below what their programs pick.",
        ),
    ] = None,
    negatives: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Places marked as no particle, like LABELS: how many of them are picked?"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the precision-recall curve and the calibration to this PNG (needs the extra plot).",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all figures to this file.")
    ] = None,
) -> None:
    """Compare picks with labels: precision, recall, F1, AP, duplicates, calibration; by one-to-one
    matching.
    """
    import json
    from functools import cache

    from gtpick_rt.evaluate.loading import load, pixel_size_of
    from gtpick_rt.evaluate.report import report
    from gtpick_rt.formats.coordinates import read_table

    if plot is not None:
        need_plot(plot)
    read_file = cache(read_table)
    known = pixel_size_of(picks, labels, read_file) if pixel_size is None else None
    lengths = _lengths(diameter, known if pixel_size is None else pixel_size, radius)
    loaded = load(picks, labels, lengths.diameter_px, negatives=negatives, threshold=threshold, read_file=read_file)
    if lengths.pixel_size_A is None:
        typer.echo(f"--diameter {diameter:g} is taken in px, for no file tells a pixel size: --pixel-size", err=True)
    figures = report(loaded.micrographs, lengths)
    _print(figures, known)
    if loaded.log_odds:
        typer.echo("the scores of the picks were taken for log-odds, and are shown as probabilities")
    _warn_of_pixel_size(picks, pixel_size)
    _note("no picks in the list, so counted as missed", loaded.unnamed)
    _note("ignored, since only one side has them", loaded.ignored)
    if json_file is not None:
        record = figures.record() | {"left_out": loaded.left_out}
        write_file(json_file, json.dumps(record, indent=1).encode())
    if plot is not None:
        from gtpick_rt.evaluate.drawing import draw

        write_file(plot, draw(figures))
    for fault in loaded.left_out.values():
        typer.echo(f"left out: {printable(fault)}", err=True)
    if loaded.left_out:
        raise typer.Exit(EXIT_SOME_FAILED)


def _lengths(diameter: float, pixel_size: float | None, radius: float | None) -> "Lengths":
    from gtpick_rt.evaluate.report import Lengths

    if not all(length is None or length > 0 for length in (diameter, pixel_size, radius)):
        raise UsageError("--diameter, --pixel-size and --radius must be greater than 0")
    unit_px = 1 if pixel_size is None else 1 / pixel_size
    return Lengths(
        diameter_px=diameter * unit_px,
        radius_px=(diameter / 3 if radius is None else radius) * unit_px,
        pixel_size_A=pixel_size,
    )


def _warn_of_pixel_size(picks: Path, given_A: float | None) -> None:
    """Say when the record of `gtpick-rt pick` in the folder of the picks has another pixel size
    than was given.
    """
    from gtpick_rt.evaluate.loading import PIXEL_SIZE_SPREAD, recorded_pixel_sizes_A
    from gtpick_rt.output.layout import summary_path

    if given_A is None:
        return
    summary = summary_path(picks if picks.is_dir() else picks.parent)
    recorded = recorded_pixel_sizes_A(summary)
    others = [each for each in recorded if abs(each - given_A) > PIXEL_SIZE_SPREAD * each]
    if others:
        found = " to ".join(f"{each:g}" for each in sorted({min(others), max(others)}))
        typer.echo(
            f"warning: --pixel-size {given_A:g}, but {len(others)} of {counted(len(recorded), 'micrograph')} in "
            f"{summary} have {found} Å: unless the coordinates were scaled since, the diameter in pixels is wrong; "
            "give theirs",
            err=True,
        )


def _print(figures: "Report", known_A: float | None) -> None:
    from rich.console import Console

    console = Console()
    for line in _micrograph_table(figures.micrographs):
        typer.echo(line)
    if len(figures.micrographs) > MAX_ROWS:
        console.print(f"(the {MAX_ROWS} lowest F1 of {len(figures.micrographs)} micrographs; --json writes all)")
    console.print()
    console.print(_summary(figures))
    if figures.calibration is not None:
        console.print()
        console.print(_reliability(figures.calibration))
    lengths = figures.lengths
    unit = "" if lengths.pixel_size_A is None else f" = {lengths.in_A(lengths.diameter_px):.1f} Å"
    typer.echo(f"\n{lengths.rule}\nIoU of square boxes of the diameter, {lengths.diameter_px:.1f} px{unit}", nl=False)
    typer.echo(
        "" if known_A is None else f"; lengths are in Å, by the {known_A:.4g} Å per pixel that the files tell of"
    )


_HEADER = ("picks", "labels", "matches", "prec.", "recall", "F1", "F1 IoU", "error px", "dup.", "micrograph")


def _micrograph_table(micrographs: "Sequence[MicrographFigures]") -> "Iterator[str]":
    from gtpick_rt.cli.tables import table

    shown = sorted(micrographs, key=lambda each: each.f1)[:MAX_ROWS] if len(micrographs) > MAX_ROWS else micrographs
    return table(_HEADER, [_row(each) for each in shown])


def _row(each: "MicrographFigures") -> tuple[str, ...]:
    ratios = (each.precision, each.recall, each.f1, each.f1_iou)
    error = "-" if each.centre_error_px is None else f"{each.centre_error_px:.1f}"
    counts = (f"{count}" for count in (each.picks, each.labels, each.matches))
    return (*counts, *(f"{ratio:.3f}" for ratio in ratios), error, f"{each.duplicates}", each.micrograph)


def _summary(figures: "Report") -> "Table":
    pooled, boxes = figures.pooled, figures.boxes
    table = _grid(counted(pooled.micrographs, "micrograph"), "centres", "IoU 0.5")
    for name, one, other in (
        ("picks", pooled.picks, boxes.picks),
        ("labels", pooled.labels, boxes.labels),
        ("matches", pooled.matches, boxes.matches),
    ):
        table.add_row(name, f"{one}", f"{other}")
    for name, one_ratio, other_ratio in (
        ("precision", pooled.precision, boxes.precision),
        ("recall", pooled.recall, boxes.recall),
        ("F1", pooled.f1, boxes.f1),
    ):
        table.add_row(name, f"{one_ratio:.3f}", f"{other_ratio:.3f}")
    table.add_row("F1, mean of micrographs", f"{pooled.mean_f1:.3f}")
    for name, value in _further(figures):
        table.add_row(name, value)
    return table


def _further(figures: "Report") -> list[tuple[str, str]]:
    """What there is by the headline rule only."""
    pooled, best = figures.pooled, figures.best
    error_px, error_A = pooled.centre_error_px, figures.lengths.in_A(pooled.centre_error_px)
    error = "-" if error_px is None else f"{error_px:.1f} px" + ("" if error_A is None else f" = {error_A:.1f} Å")
    rows = [
        ("average precision", "no scores" if figures.average_precision is None else f"{figures.average_precision:.3f}"),
        ("median centre error", error),
        ("duplicates", f"{pooled.duplicates} ({figures.duplicate_share:.1%} of picks)"),
    ]
    if best is not None:
        rows.insert(1, ("best F1 on these labels", f"{best[0]:.3f} at {best[1]:.2f}"))
    if figures.calibration is not None:
        rows.append(("expected calibration error", f"{figures.calibration.expected_error:.3f}"))
    if figures.negatives is not None:
        rows.append(("negatives picked", f"{figures.negatives_hit} of {figures.negatives}"))
    return rows


def _reliability(calibration: "Calibration") -> "Table":
    table = _grid("score", "detections", "mean score", "share right")
    for each in calibration.bins:
        if each.mean_score is not None:
            values = (each.mean_score, each.share_right)
            table.add_row(f"{each.low:.1f} to {each.high:.1f}", f"{each.picks}", *(f"{value:.3f}" for value in values))
    return table


def _grid(first: str, *numbers: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _note(what: str, names: "Sequence[str]") -> None:
    if names:
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        typer.echo(f"{what}: {', '.join(names[:MAX_NAMED])}{more}", err=True)
