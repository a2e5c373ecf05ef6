"""`gtpick-rt simulate` and `gtpick-rt train`. PyTorch is imported only when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

Structures = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of density maps (.mrc) and atomic models (.pdb, .cif) to use beside the procedural particles.",
    ),
]
Procedurals = Annotated[int, typer.Option(min=12, help="Procedural particles to make.")]


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    count: Annotated[int, typer.Option(min=1, help="Micrographs to write.")] = 3,
    size: Annotated[int, typer.Option(min=64, help="Width and height of a micrograph in px.")] = 2048,
    particle: Annotated[float, typer.Option(min=8, help="Particle diameter in px of the micrograph.")] = 80.0,
    snr: Annotated[float, typer.Option(min=1e-4, help="Signal-to-noise ratio at a pixel of 1/100 diameter.")] = 0.05,
    structures: Structures = None,
    procedurals: Procedurals = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
) -> None:
    """Write simulated micrographs (MRC) with exact labels (RELION STAR)."""
    from gtpick_model.simulator.field import Conditions
    from gtpick_model.simulator.micrographs import write_micrographs
    from gtpick_model.tiles import libraries

    library, _ = libraries(structures, procedurals, views=32, side=96)
    conditions = Conditions(extent_px=(particle, particle), snr=(snr, snr), empty=0.0)
    for path in write_micrographs(library, out, count, (size, size), conditions, seed):
        typer.echo(f"{path}  labels: {path.with_suffix('.star')}")


def train(
    out: Annotated[Path, typer.Argument(help="Folder of the run; a run that is already there is resumed.")],
    variant: Annotated[str, typer.Option(help="nano, small or base.")] = "nano",
    steps: Annotated[int, typer.Option(min=1, help="Training steps in all.")] = 6000,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per step.")] = 32,
    tile: Annotated[int, typer.Option(min=64, help="Side of a training tile in px, a multiple of 16.")] = 128,
    structures: Structures = None,
    procedurals: Procedurals = 240,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train GTpick on simulated tiles; writes weights, state to resume from, and curves (JSON and PNG)."""
    import torch
    from rich.progress import Progress

    from gtpick_model.config import VARIANTS
    from gtpick_model.curves import draw_curve
    from gtpick_model.tiles import libraries
    from gtpick_model.training import Schedule, Trainer

    if variant not in VARIANTS:
        raise typer.BadParameter(f"no variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    schedule = Schedule(steps=steps, batch=batch, tile_px=tile, seed=seed)
    typer.echo("projecting the structures ...")
    trainer = Trainer(VARIANTS[variant], schedule, libraries(structures, procedurals), out, torch.device(device))
    with Progress() as progress:
        bar = progress.add_task("training", total=steps)

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step, description=f"loss {loss:.2f}")
            if step % schedule.evaluate_every == 0 and trainer.curve:
                progress.console.print(trainer.describe())

        trainer.run(on_step)
    draw_curve(out)
    typer.echo(f"weights: {out / 'weights.safetensors'}\n{trainer.describe()}")
