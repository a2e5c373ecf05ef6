"""`gtpick-rt build`: the TensorRT engine of a model, built before it is needed, or only to be
looked at.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtpick_rt.cli.files import write_file
from gtpick_rt.cli.options import Device
from gtpick_rt.errors import BackendError, UsageError

if TYPE_CHECKING:
    from gtpick_rt.backends.engines.building import Built, Profile
    from gtpick_rt.backends.engines.libraries import LibraryName

BATCHES = "1,8,32,64"


def build(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Name of a shipped model, or path of an ONNX file; else the default model."
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only build, into this file: neither run nor proved, and no command uses it. Needs no GPU with "
            "tensorrt-rtx.",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="KIND", help="With --out: fp16 or fp32.")] = "fp16",
    batch: Annotated[
        str, typer.Option(metavar="SIZES", help="With --out: sizes of batch, each with kernels of its own.")
    ] = BATCHES,
) -> None:
    """Build the TensorRT engine of a model for the GPU of this machine, prove it, and keep it for
    `pick`.

    Without this, the first `pick` with a TensorRT backend does so. The engine picks a sample beside
    ONNX Runtime in single precision, and is refused unless the picks agree.
    """
    from gtpick_rt.backends.engines.libraries import best_library
    from gtpick_rt.models.files import half_of, resolve_model

    if precision not in ("fp16", "fp32"):
        raise UsageError(f"--precision {precision}: choose fp16 or fp32")
    if out is None and (precision, batch) != ("fp16", BATCHES):
        raise UsageError(f"picking uses engines in half precision for batches of {BATCHES}: give others an --out FILE")
    name = best_library() if backend == "auto" else _library_name(backend)
    reference = resolve_model(model)
    if out is None:
        _for_picking(reference, name, profile, force)
    else:
        _only_build(half_of(reference) if precision == "fp16" else reference, name, _profile(batch), out, profile)


def _library_name(text: str) -> "LibraryName":
    from gtpick_rt.backends.engines.libraries import LIBRARIES

    for name in LIBRARIES:
        if name == text:
            return name
    raise UsageError(f"--backend {text}: choose auto, {' or '.join(LIBRARIES)}; others of pick have no engine to build")


def _profile(text: str) -> "Profile":
    from gtpick_rt.backends.engines.building import Profile

    try:
        sizes = tuple(map(int, text.split(",")))
    except ValueError:
        raise UsageError(f"--batch {text}: not numbers of tiles, as in {BATCHES}") from None
    return Profile(sizes)


def _for_picking(reference: Path, name: "LibraryName", profile: Path | None, force: bool) -> None:
    from gtpick_rt.backends.cuda import current_gpu
    from gtpick_rt.backends.engines.inspecting import engine_layers
    from gtpick_rt.backends.onnx_file import half_beside
    from gtpick_rt.backends.support import unsupported
    from gtpick_rt.proof.engines import engine_for, prove

    try:
        gpu = current_gpu()
    except BackendError as error:
        raise BackendError(f"{error}; to build only, without running it: --out FILE") from error
    if reason := unsupported(name, gpu):
        raise BackendError(reason)
    half, _ = half_beside(reference)
    with _progress() as (on_progress, on_notice):
        engine = engine_for(
            half,
            name,
            gpu,
            lambda plan: prove(plan, reference, name),
            on_progress=on_progress,
            on_notice=on_notice,
            force=force,
        )
    record = engine.record
    built = f"built in {record.seconds:.1f} s" if engine.fresh else f"in the cache since {record.built_at}"
    typer.echo(
        f"{half.name} on {gpu.name}: {name} {record.key.version}, {record.size / 1e6:.1f} MB, {record.half_share:.1%} "
        f"of its tensors in half precision, {built}"
    )
    if profile is not None:
        _write_profile(profile, half, name, "engine", engine_layers(name, engine.plan))


def _only_build(runs: Path, name: "LibraryName", batches: "Profile", out: Path, profile: Path | None) -> None:
    from gtpick_rt.backends.engines.building import build as build_engine
    from gtpick_rt.backends.engines.building import read_onnx

    with _progress() as (on_progress, _):
        built: Built = build_engine(runs, read_onnx(runs), name, batches, on_progress=on_progress)
    write_file(out, built.plan)
    typer.echo(
        f"{out}: {runs.name}, batches {batches}, {len(built.plan) / 1e6:.1f} MB, {built.half_share:.1%} of its tensors "
        f"in half precision, built in {built.seconds:.1f} s with {name}; neither run nor proved"
    )
    if profile is not None:
        _write_profile(profile, runs, name, "network", [asdict(layer) for layer in built.layers])


def _write_profile(file: Path, runs: Path, name: str, of: str, layers: list[Any]) -> None:
    content = {"model": runs.name, "library": name, "of": of, "layers": layers}
    write_file(file, (json.dumps(content, indent=1) + "\n").encode())


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """Show a bar of the build's phase on stderr, and lines above it; without a terminal, the lines
    alone.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("building", total=None)

        def on_progress(phase: str, done: int, of: int) -> None:
            progress.update(bar, description=phase, completed=done, total=of)

        def on_notice(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield on_progress, on_notice
