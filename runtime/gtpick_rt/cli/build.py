"""`gtpick-rt build`: the TensorRT engine of a model, built before it is needed, or only to be
looked at.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.help import WITH_OUT
from gtpick_rt.cli.options import Device
from gtpick_rt.errors import UsageError
from gtpick_rt.models.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from gtpick_rt.backends.engines.libraries import LibraryName
    from gtpick_rt.backends.engines.profiles import Profile

BATCHES = "1,8,32,64"


def build(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help=f"Name of a shipped model, or path of an ONNX file; else {DEFAULT_MODEL}."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="BACKEND", help="What runs it, and builds it: auto, tensorrt or tensorrt-rtx.")
    ] = "auto",
    device: Device = None,
    force: Annotated[bool, typer.Option("--force", help="Build it again, whatever the cache holds.")] = False,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write its layers and their precisions as JSON; with --out, as parsed."),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Build none, but prove and keep this one, which --out or export wrote."),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="With --engine: the checksum of one that was built elsewhere; it is code."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=WITH_OUT,
            help="Only build, into this file, with its record beside it: neither run nor proved. --engine takes it "
            "later. Needs no GPU with tensorrt-rtx.",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="KIND", rich_help_panel=WITH_OUT, help="fp16 or fp32.")] = "fp16",
    batch: Annotated[
        str,
        typer.Option(
            metavar="SIZES",
            rich_help_panel=WITH_OUT,
            help="Sizes of batch, each with kernels of its own; picking needs the default.",
        ),
    ] = BATCHES,
    optimization_level: Annotated[
        int | None,
        typer.Option(min=0, max=5, metavar="N", rich_help_panel=WITH_OUT, help="How long kernels are searched for."),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(min=1, metavar="MB", rich_help_panel=WITH_OUT, help="Memory that a layer may use."),
    ] = None,
    capability: Annotated[
        str | None,
        typer.Option(
            metavar="M.N", rich_help_panel=WITH_OUT, help="Of the cards to build for, with tensorrt-rtx: 8.9 for Ada."
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=WITH_OUT,
            help="What builds with tensorrt have measured: read where it is there, and written anew.",
        ),
    ] = None,
) -> None:
    """Build the TensorRT engine of a model for the GPU of this machine, prove it, and keep it for
    `pick`.

    Without this, the first `pick` with a TensorRT backend does so. The engine picks a sample beside
    ONNX Runtime in single precision, and is refused unless the picks agree.
    """
    from gtpick_rt.backends.engines.building import Effort
    from gtpick_rt.backends.engines.libraries import best_library
    from gtpick_rt.cli.building import Wish, build_for_picking, only_build, take
    from gtpick_rt.models.files import resolve_model

    if precision not in ("fp16", "fp32"):
        raise UsageError(f"--precision {precision}: choose fp16 or fp32")
    own = (precision, batch, optimization_level, workspace, capability, timing_cache)
    if out is None and own != ("fp16", BATCHES, None, None, None, None):
        raise UsageError(
            f"picking uses engines in half precision for batches of {BATCHES}, built as this version builds them: "
            "give others an --out FILE"
        )
    if out is not None and engine is not None:
        raise UsageError("--out builds an engine, and --engine takes one that is built: give one of them")
    if sha256 is not None and engine is None:
        raise UsageError("--sha256: is the checksum of an --engine FILE")
    name = best_library() if backend == "auto" else _library_name(backend)
    reference = resolve_model(model)
    if out is not None:
        wish = Wish(precision, _profile(batch), Effort(optimization_level, workspace), capability, timing_cache)
        only_build(reference, name, wish, out, profile)
    elif engine is not None:
        take(reference, name, engine, sha256)
    else:
        build_for_picking(reference, name, profile, force)


def _library_name(text: str) -> "LibraryName":
    from gtpick_rt.backends.engines.libraries import LIBRARIES

    for name in LIBRARIES:
        if name == text:
            return name
    raise UsageError(f"--backend {text}: choose auto, {' or '.join(LIBRARIES)}; others of pick have no engine to build")


def _profile(text: str) -> "Profile":
    from gtpick_rt.backends.engines.profiles import Profile

    try:
        sizes = tuple(map(int, text.split(",")))
    except ValueError:
        raise UsageError(f"--batch {text}: not numbers of tiles, as in {BATCHES}") from None
    return Profile(sizes)
