"""`gtpick-rt doctor`: what runs models here, and how to get what is missing."""

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.options import Device, Model

if TYPE_CHECKING:
    from gtpick_rt.doctor import Diagnosis

_SHOWN = 12
"""Characters of an engine's file name, a hash, that tell it from others."""


def doctor(
    model: Model = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Tell which GPUs and backends can be used here, and what to do about the others.

    Runs one tile on each backend that can be used. Builds no engine.
    """
    import json
    from dataclasses import asdict

    from gtpick_rt.doctor import examine
    from gtpick_rt.models.files import resolve_model

    found = examine(resolve_model(model))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        _print(found)


def _print(found: "Diagnosis") -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    console.print(f"driver: {found.driver or 'none is loaded'}", highlight=False)
    for gpu in found.gpus:
        major, minor = gpu.compute_capability
        console.print(f"GPU: {gpu.name}, compute capability {major}.{minor}", highlight=False, markup=False)
    if found.gpu_problem:
        console.print(f"GPU: {found.gpu_problem}", highlight=False, markup=False)
    table = Table("backend", "usable", "one tile", "memory", Column(overflow="fold"), box=None, header_style="bold")
    for state in found.backends:
        usable = Text("yes", "green") if state.usable else Text("no", "red")
        speed = "" if state.tile_ms is None else f"{state.tile_ms:.1f} ms"
        memory = "" if state.memory_bytes is None else f"{state.memory_bytes / 1e6:.0f} MB"
        table.add_row(state.name, usable, speed, memory, Text(state.detail))
    console.print("", table, "", f"engines: {found.engine_folder}", highlight=False, markup=False)
    if found.engine_problem:
        console.print(found.engine_problem, style="red", highlight=False, markup=False)
    for engine in found.engines:
        what = engine.problem or f"{engine.library} on {engine.gpu}, built {engine.built_at}"
        if engine.superseded:
            what += f"; superseded: {engine.superseded}"
        console.print(f"  {engine.file[:_SHOWN]}  {engine.size / 1e6:.1f} MB  {what}", highlight=False, markup=False)
    useless = [engine.file[:_SHOWN] for engine in found.engines if engine.problem or engine.superseded]
    if useless:
        names = " ".join(f"{quote(name)}*" for name in useless)
        console.print(
            f"  these can be removed: cd {quote(found.engine_folder)} && rm {names}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if not found.engines and not found.engine_problem:
        console.print("  none yet", highlight=False)
