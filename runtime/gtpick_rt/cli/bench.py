"""`gtpick-rt bench`: how fast picking is on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtpick_rt.cli.files import need_plot, write_file
from gtpick_rt.cli.options import BackendOrServer, Device, Model, PixelSize, Url, backend_at
from gtpick_rt.errors import UsageError
from gtpick_rt.records import counted

if TYPE_CHECKING:
    from gtpick_rt.bench.floors import Floor
    from gtpick_rt.bench.measuring import Speed

SIDE_PX, DIAMETER_A = 4096, 160.0
"""Of the synthetic micrographs."""
MIN_MICROGRAPHS = 2


def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", help="Micrographs; without any, synthetic ones. With --compare, files that --json wrote."
        ),
    ] = None,
    diameter: Annotated[
        float | None, typer.Option(min=0, metavar="Å", help="Particle diameter in Å; must be given with INPUT.")
    ] = None,
    pixel_size: PixelSize = None,
    model: Model = None,
    backend: BackendOrServer = "auto",
    url: Url = None,
    device: Device = None,
    count: Annotated[int, typer.Option(min=2, metavar="N", help="At most so many micrographs.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Repetitions, of which medians are taken.")] = 3,
    side: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Of synthetic micrographs, in pixels.")
    ] = f"{SIDE_PX}x{SIDE_PX}",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw them to this PNG (needs the extra plot).")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure nothing: put what was measured before beside each other.")
    ] = False,
) -> None:
    """Measure how fast picking is here: each stage alone, the network alone, and all together.

    Nothing else should run on the machine meanwhile. What is picked is thrown away.
    """
    from gtpick_rt.arrivals.jobs import find_jobs
    from gtpick_rt.bench.energy import energy_meter
    from gtpick_rt.bench.floors import measure_floors
    from gtpick_rt.bench.measuring import measure
    from gtpick_rt.bench.synthetic import write_synthetic
    from gtpick_rt.models.files import resolve_model
    from gtpick_rt.proof.opening import open_picker

    if plot is not None:
        need_plot(plot)
    if compare:
        _compare([Path(file) for file in inputs or ()], plot)
        return
    if inputs and diameter is None:
        raise UsageError("give the particle diameter in Å: --diameter")
    with TemporaryDirectory() as folder:
        if not inputs:
            width, height = _size(side)
            write_synthetic(Path(folder), count, width, height, diameter or DIAMETER_A)
        jobs = find_jobs(inputs or [folder]).jobs[:count]
        if len(jobs) < MIN_MICROGRAPHS:
            raise UsageError(f"the pipeline overlaps micrographs: give at least {MIN_MICROGRAPHS}, got {len(jobs)}")
        with open_picker(diameter or DIAMETER_A, model=model, backend=backend_at(backend, url)) as picker:
            on_cpu = picker.backend.on_cpu
            meter = None if on_cpu or url else energy_meter()  # a server has a card of its own
            speed = measure(picker, jobs, pixel_size, rounds, meter)
            floors = measure_floors(speed, resolve_model(model), picker.spec, jobs, on_cpu)
    _print(speed, floors)
    if json_file is not None:
        write_file(json_file, (json.dumps(_record(speed, floors, picker.spec.name), indent=1) + "\n").encode())
    if plot is not None:
        from gtpick_rt.bench.drawing import draw

        write_file(plot, draw(speed))


def _compare(files: list[Path], plot: Path | None) -> None:
    from gtpick_rt.bench.comparing import FLOORS, read_measured
    from gtpick_rt.cli.tables import table

    measured = read_measured(files)
    first = measured[0]
    header = (
        "s per micrograph",
        "of the first",
        *(f"floor of {name}" for name in FLOORS),
        "J",
        "network alone",
        "tiles/s",
        "in batches of",
        "",
    )
    rows = [
        (
            f"{each.pipeline_s:.3f}",
            f"{each.pipeline_s / first.pipeline_s:.2f}",
            *(f"{each.shares[name]:.1%}" if name in each.shares else "-" for name in FLOORS),
            "-" if each.energy_J is None else f"{each.energy_J:.1f}",
            f"{each.infer_s:.3f}",
            f"{each.tiles_per_s[each.best_batch]:.0f}",
            str(each.best_batch),
            f"{each.name}: {each.runs}, {each.machine}",
        )
        for each in measured
    ]
    for line in table(header, rows):
        typer.echo(line)
    for each in measured[1:]:
        if each.micrograph != first.micrograph:
            typer.echo(f"{each.name}: {each.micrograph} instead of {first.micrograph}: compare tiles/s alone")
    if plot is not None:
        from gtpick_rt.bench.drawing import draw_compared

        write_file(plot, draw_compared(measured))


def _size(text: str) -> tuple[int, int]:
    """Read the value of --side. Raises UsageError."""
    try:
        width, height = map(int, text.lower().split("x"))
    except ValueError:
        raise UsageError(f"--side {text}: not two numbers of pixels, as in 5760x4092") from None
    return width, height


def _told(name: str, floor: "Floor") -> str:
    """What a floor is made of, and how near the pipeline is to it."""
    unit, what = {"flop": ("GFLOP", ""), "bytes": ("GB", " moved"), "storage": ("GB", " read")}[name]
    amount, rate = floor.amount / 1e9, floor.per_s / 1e9
    return f"{floor.share:.1%} ({amount:.3g} {unit}{what}, at {rate:.3g} {unit}/s)"


def _print(speed: "Speed", floors: "dict[str, Floor]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "s per micrograph", "micrographs/s", box=None, pad_edge=False, header_style="bold")
    rows = {f"{stage}, alone": seconds for stage, seconds in speed.stage_s.items()}
    rows["read, alone, not in the page cache"] = speed.read_cold_s
    rows[f"processor time of all, on {counted(speed.cores, 'core')}"] = speed.cpu_s / speed.cores
    rows["pipeline"] = speed.pipeline_s
    rows["pipeline, files not in the page cache"] = speed.pipeline_cold_s
    rows |= {f"floor of {name}": floor.seconds for name, floor in floors.items()}
    for name, seconds in rows.items():
        table.add_row(name, f"{seconds:.3f}", f"{1 / seconds:.2f}")
    console = Console()
    console.print(
        f"{counted(speed.micrographs, 'micrograph')} of {speed.width} x {speed.height} px, "
        f"{counted(speed.tiles, 'tile')} and {counted(round(speed.picks), 'pick')} each, on {speed.backend}; "
        f"medians of {counted(speed.rounds, 'round')}\n"
    )
    console.print(table)
    console.print(
        f"\nThe pipeline runs at {speed.efficiency:.0%} of its slowest stage's rate, and at "
        f"{speed.efficiency_of_bound:.0%} of what stages and cores allow.\n"
        "The floors are these parts of its time: "
        + ", ".join(_told(*each) for each in floors.items())
        + ".\n"
        + ("" if speed.energy_J is None else f"The GPU takes {speed.energy_J:.1f} J for each micrograph.\n")
        + "The network alone: "
        + ", ".join(f"{rate:.0f} tiles/s in batches of {batch}" for batch, rate in speed.tiles_per_s.items())
    )


def _record(speed: "Speed", floors: "dict[str, Floor]", model: str) -> dict[str, Any]:
    """All figures, and on what they were measured."""
    from gtpick_rt.proof.refusing import machine

    derived = {name: getattr(speed, name) for name in ("bound_s", "efficiency", "efficiency_of_bound")}
    return {
        **machine(),
        "model": model,
        **{name: value for name, value in asdict(speed).items() if value is not None},
        **derived,
        "floors": {name: floor.report() for name, floor in floors.items()},
    }
