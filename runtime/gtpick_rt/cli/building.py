"""What `gtpick-rt build` does: build for picking, build into a file, or take an engine from one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer

from gtpick_rt.backends import cuda
from gtpick_rt.backends.engines import inspecting
from gtpick_rt.backends.engines.building import Effort, build, read_onnx
from gtpick_rt.backends.engines.libraries import LibraryName
from gtpick_rt.backends.engines.profiles import Profile
from gtpick_rt.backends.engines.records import EngineKey, Gpu
from gtpick_rt.backends.onnx_file import half_beside
from gtpick_rt.backends.support import unsupported
from gtpick_rt.cli.files import write_file
from gtpick_rt.errors import BackendError, UsageError
from gtpick_rt.models.files import PREPROCESSING, half_of
from gtpick_rt.proof import engines, graphs
from gtpick_rt.proof.engine_files import take_engine, write_engine

_NO_GPU = Gpu("", (0, 0), "")


@dataclass(frozen=True)
class Wish:
    """How an engine for a file is to be built."""

    precision: str
    batches: Profile
    effort: Effort
    capability: str | None
    """Of the cards that it is for, as "8.9"; those that the library chooses."""
    timing_cache: Path | None


def build_for_picking(reference: Path, name: LibraryName, profile: Path | None, force: bool) -> None:
    """Build the engines that `pick` uses on this GPU, unless they are there: of the network, and of
    what prepares micrographs.
    """
    gpu = _gpu(name, "; to build only, without running it: --out FILE")
    half, spec = half_beside(reference)
    with _progress() as (on_progress, on_notice):
        engine = engines.engine_for(
            half,
            name,
            gpu,
            lambda plan: engines.prove(plan, reference, name),
            on_progress=on_progress,
            on_notice=on_notice,
            force=force,
        )
        typer.echo(f"{half.name} on {_told(engine)}, {engine.record.half_share:.1%} of its tensors in half precision")
        for pixels in PREPROCESSING:
            try:
                prepares = graphs.engine_of(
                    pixels, name, spec, on_progress=on_progress, on_notice=on_notice, force=force
                )
                typer.echo(f"preprocessing of {pixels} on {_told(prepares)}")
            except BackendError as error:
                on_notice(f"the processor is going to prepare micrographs: {error}")
    if profile is not None:
        _write_profile(profile, half, name, "engine", inspecting.engine_layers(name, engine.plan))


def _told(engine: engines.Engine) -> str:
    record, key = engine.record, engine.record.key
    built = f"built in {record.seconds:.1f} s" if engine.fresh else f"in the cache since {record.built_at}"
    return f"{key.gpu}: {key.library} {key.version}, {record.size / 1e6:.1f} MB, {built}"


def take(reference: Path, name: LibraryName, file: Path, sha256: str | None) -> None:
    """Prove the engine in a file, and keep it for `pick` on this GPU."""
    gpu = _gpu(name, "")
    half, _ = half_beside(reference)
    key = engines.key_of(read_onnx(half), name, gpu)
    record = take_engine(file, key, lambda plan: engines.prove(plan, reference, name), sha256)
    typer.echo(
        f"{file} on {gpu.name}: {name} {record.key.version}, {record.size / 1e6:.1f} MB, built {record.built_at}; it "
        f"picks as {reference.name} does and is kept for picking"
    )


def _gpu(name: LibraryName, way_out: str) -> Gpu:
    """The GPU that is here, if the library supports it. Raises BackendError."""
    try:
        gpu = cuda.current_gpu()
    except BackendError as error:
        raise BackendError(f"{error}{way_out}") from error
    if reason := unsupported(name, gpu):
        raise BackendError(reason)
    return gpu


def only_build(reference: Path, name: LibraryName, wish: Wish, out: Path, profile: Path | None) -> None:
    """Build an engine into a file, with its record beside it."""
    runs = half_of(reference) if wish.precision == "fp16" else reference
    if wish.capability is not None and name != "tensorrt-rtx":
        raise UsageError(f"--capability {wish.capability}: {name} builds for the GPU that is here alone")
    if wish.timing_cache is not None and name != "tensorrt":
        raise UsageError(f"--timing-cache {wish.timing_cache}: {name} measures nothing while it builds")
    content, timings = read_onnx(runs), _read_if_there(wish.timing_cache)
    with _progress() as (on_progress, _):
        built = build(
            runs,
            content,
            name,
            wish.batches,
            capability=_numbers(wish.capability),
            timings=timings,
            effort=wish.effort,
            on_progress=on_progress,
        )
    try:
        write_engine(out, built, _key(content, name, wish))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    if wish.timing_cache is not None:
        write_file(wish.timing_cache, built.timings)
    typer.echo(
        f"{out}: {runs.name}, batches {wish.batches}, {len(built.plan) / 1e6:.1f} MB, {built.half_share:.1%} of its "
        f"tensors in half precision, built in {built.seconds:.1f} s with {name}; neither run nor proved"
    )
    if profile is not None:
        _write_profile(profile, runs, name, "network", [asdict(layer) for layer in built.layers])


def _key(content: bytes, name: LibraryName, wish: Wish) -> EngineKey:
    """TensorRT builds for the GPU that is here, TensorRT-RTX for cards of a capability, or of
    several.
    """
    key = engines.key_of(content, name, cuda.current_gpu() if name == "tensorrt" else _NO_GPU)
    if name == "tensorrt-rtx":
        key = replace(key, compute_capability=wish.capability or "")
    return replace(key, profile=str(wish.batches), flags=f"{key.flags}{wish.effort}")


def _numbers(capability: str | None) -> tuple[int, int] | None:
    if capability is None:
        return None
    try:
        major, minor = map(int, capability.split("."))
    except ValueError:
        raise UsageError(f"--capability {capability}: not two numbers, as in 8.9") from None
    return major, minor


def _read_if_there(file: Path | None) -> bytes:
    return b"" if file is None or not file.exists() else read_onnx(file)


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
    with Progress(console=console, disable=not console.is_interactive) as progress:
        bar = progress.add_task("building", total=None)

        def on_progress(phase: str, done: int, of: int) -> None:
            progress.update(bar, description=phase, completed=done, total=of)

        def on_notice(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield on_progress, on_notice
