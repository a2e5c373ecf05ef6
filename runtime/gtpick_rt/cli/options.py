"""What several commands share: arguments and exit codes."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.backends.visible import seeing_only
from gtpick_rt.cli.help import INPUT, MODEL, NOT_HERE, OUTPUT, PARTICLE
from gtpick_rt.errors import UsageError
from gtpick_rt.models.files import DEFAULT_MODEL
from gtpick_rt.records import duration

if TYPE_CHECKING:
    from gtpick_rt.arrivals.folders import Names

EXIT_USAGE = UsageError.exit_code
EXIT_SOME_FAILED = 3
EXIT_SIGNAL = 128
"""Plus the number of the signal that ended the run: 130 for Ctrl-C, 143 for SIGTERM."""


def finite(value: float | None) -> float | None:
    """Refuse the numbers "nan" and "inf", which pass every comparison with a limit."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def use_device(number: int | None) -> int | None:
    """Let the process see this GPU alone, before any library has asked which there are."""
    if number is not None:
        try:
            os.environ.update(seeing_only(number))
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error
    return number


def choice(include: list[str] | None, exclude: list[str] | None) -> "Names":
    """Make a choice of names from the values of --include and --exclude."""
    from gtpick_rt.arrivals.folders import DEFAULT_EXCLUDES, Names

    return Names(tuple(include or ()), DEFAULT_EXCLUDES if exclude is None else tuple(filter(None, exclude)))


def diameter_in_A(text: str) -> float | None:
    """Read the value of --diameter; None for auto. Raises UsageError."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--diameter {text}: neither a number of Å nor auto") from None


def backend_at(backend: str, url: str | None) -> str:
    """The backend's name, a server's with its address. Raises UsageError for half of one."""
    if url is None:
        return backend
    if backend != "triton":
        raise UsageError(f"--url {url}: is the address of a server: --backend triton")
    return f"{backend}:{url}"


def lasted(seconds: float) -> str:
    """Say how long: "2.5 s", "3 min 20 s"."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def format_names(text: str) -> tuple[str, ...]:
    """Read a list of formats with commas; STAR is always there, and need not be named."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name not in ("", "star")))


def listed(text: str | None) -> tuple[str, ...] | None:
    """Read a list with commas; None where nothing is asked for."""
    return None if text is None else tuple(text.split(","))


OutputOf = Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a run of pick.")]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        rich_help_panel=INPUT,
        help="Micrographs: folders, files, globs, STAR files or cryoSPARC's exposures (.cs).",
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        metavar="Å",
        callback=finite,
        rich_help_panel=INPUT,
        help="Å per pixel, instead of what STAR or .cs files, or else image headers, say.",
    ),
]
Diameter = Annotated[
    str,
    typer.Option(
        metavar="Å|auto",
        rich_help_panel=PARTICLE,
        help="Particle diameter in Å, about its longest extent; auto measures it.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=MODEL,
        help=f"Name of a shipped model, by default {DEFAULT_MODEL}, or path of an ONNX file.",
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        metavar="BACKEND",
        rich_help_panel=MODEL,
        help="What runs the model: auto, cpu, openvino, cuda, tensorrt or tensorrt-rtx.",
    ),
]
BackendOrServer = Annotated[
    str,
    typer.Option(
        metavar="BACKEND",
        rich_help_panel=MODEL,
        help="What runs the model: auto, cpu, openvino, cuda, tensorrt, tensorrt-rtx, or a server: triton.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", rich_help_panel=MODEL, help="With --backend triton: the server's gRPC service."),
]
Device = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        callback=use_device,
        rich_help_panel=MODEL,
        help="Use this GPU, by its number in nvidia-smi; by default the first.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SCORE",
        rich_help_panel=PARTICLE,
        help="Score from which a detection is a pick; by default as for the folder's picks, or the model's own, "
        "unless the first micrographs promise much more at another.",
    ),
]
Margin = Annotated[
    str | None,
    typer.Option(
        metavar="WIDTH",
        rich_help_panel=NOT_HERE,
        help="No particle reaches into so many Å, or px as in 40px, along the borders; by default as for the folder's "
        "picks, or auto: as wide as they are smeared or constant. 0 is none.",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        rich_help_panel=NOT_HERE,
        help="MRC or PNG, white where picks may lie; or a folder with one named as each micrograph.",
    ),
]
SkipFlagged = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        rich_help_panel=NOT_HERE,
        help="Micrographs with one of these flags get no picks; with commas: empty,crowded,carbon,ice,low.",
    ),
]
AvoidContamination = Annotated[
    bool,
    typer.Option(
        "--avoid-contamination",
        rich_help_panel=NOT_HERE,
        help="No picks on film beyond a carbon edge, and none in ice larger than a particle.",
    ),
]
Overlays = Annotated[
    bool,
    typer.Option("--overlays", rich_help_panel=OUTPUT, help="Also draw the picks on pictures; of a finished run too."),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        rich_help_panel=OUTPUT,
        help="Pick all again, whatever the folder holds; and with a diameter that the micrographs contradict.",
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", rich_help_panel=INPUT, help="Look in subfolders too.")]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", rich_help_panel=INPUT, help="Only such names in folders; may be given several times."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=INPUT,
        help="No such names in folders; may be given several times. By default power spectra, half sets and sums "
        "without dose weighting; '' excludes nothing.",
    ),
]
