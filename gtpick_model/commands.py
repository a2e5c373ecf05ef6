"""`gtpick-rt simulate` and `gtpick-rt train`. PyTorch is imported only when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

NEEDED = ("torch", "safetensors", "matplotlib")
"""Of the extra train; `gtpick-rt` says so before anything else where one is missing."""
Structures = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        metavar="FOLDER",
        help="Folder of density maps (.mrc) and atomic models (.pdb, .cif) to use beside the procedural particles.",
    ),
]
Procedurals = Annotated[int, typer.Option(min=12, metavar="N", help="Procedural particles to make.")]


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Micrographs to write.")] = 3,
    size: Annotated[int, typer.Option(min=64, metavar="PX", help="Width and height of a micrograph in px.")] = 2048,
    particle: Annotated[
        float, typer.Option(min=8, metavar="PX", help="Particle diameter in px of the micrograph.")
    ] = 80.0,
    snr: Annotated[
        float, typer.Option(min=1e-4, metavar="SNR", help="Signal-to-noise ratio at a pixel of 1/100 diameter.")
    ] = 0.05,
    structures: Structures = None,
    procedurals: Procedurals = 24,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same files.")] = 0,
) -> None:
    """Write simulated micrographs (MRC) of one specimen with exact labels (RELION STAR).

    The specimen is drawn from the structures that training holds out; its images are raw.
    """
    from gtpick_model.simulator.field import Conditions
    from gtpick_model.simulator.micrographs import write_micrographs
    from gtpick_model.simulator.views import build_library
    from gtpick_model.tiles import split_structures
    from gtpick_rt.files.atomic import make_writable

    make_writable(out)
    _, held_out = split_structures(structures, procedurals, side=96)
    specimen = build_library([held_out[seed % len(held_out)]], views=64, seed=seed)
    conditions = Conditions(
        extent_px=(particle, particle), coverage=(0.3, 0.3), snr=(snr, snr), empty=0.0, filtered=0, prefiltered=0.0
    )
    for path in write_micrographs(specimen, out, count, (size, size), conditions, seed):
        typer.echo(f"{path}  labels: {path.with_suffix('.star')}")
    typer.echo(f"{specimen.names[0]}: particle diameter {float(specimen.extent_A[0]):.0f} Å")


def train(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the run; a run that is already there is resumed.")
    ],
    variant: Annotated[str, typer.Option(metavar="VARIANT", help="nano, small or base.")] = "nano",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Training steps in all.")] = 6000,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Tiles per step.")] = 32,
    structures: Structures = None,
    procedurals: Procedurals = 240,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same run.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    real: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="FOLDER",
            help="Folder of real micrographs of one specimen with labels, in any format that is read, and a "
            'specimen.json such as {"diameter_A": 191}; may be given several times.',
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="weights.safetensors to go on from; they decide the variant.",
        ),
    ] = None,
) -> None:
    """Train GTpick on simulated tiles, and on real ones where there are any.

    Writes weights, state to resume from, and curves (JSON and PNG). Projections of the five
    sets of structures used last are kept in ~/.cache/gtpick-rt/projections, for other runs too. Of
    each labelled real micrograph the last fifth is never trained on: together with simulated tiles
    it chooses how large particles are shown, threshold and calibration.
    """
    import json

    import torch
    from rich.progress import Progress

    from gtpick_model.config import VARIANTS
    from gtpick_model.curves import draw_curve
    from gtpick_model.projections import kept_libraries
    from gtpick_model.real.specimens import read_folders
    from gtpick_model.resuming import refuse_others, settings_of
    from gtpick_model.simulator.field import Conditions
    from gtpick_model.tiles import training_names
    from gtpick_model.training import Schedule, Start, Trainer
    from gtpick_model.weights import load_weights
    from gtpick_rt.errors import UsageError
    from gtpick_rt.files.atomic import make_writable

    if variant not in VARIANTS:
        raise UsageError(f"no variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"no device {device!r}: choose cpu, or cuda where PyTorch finds a GPU")
    make_writable(out)
    schedule = Schedule(steps=steps, batch=batch, seed=seed)
    begun = Start(*load_weights(start)) if start else None
    config = begun.network.config if begun else VARIANTS[variant]
    micrographs = read_folders(real or [], config)
    sha256 = begun.sha256 if begun else None
    names = training_names(structures, procedurals)
    refuse_others(out, settings_of(config, schedule, Conditions(), micrographs, sha256, names))
    typer.echo("projecting the structures, or reading their projections ...")
    split = kept_libraries(structures, procedurals, typer.echo)
    trainer = Trainer(config, schedule, split, out, torch.device(device), real=micrographs, start=begun)
    with Progress() as progress:
        bar = progress.add_task("training", total=steps)

        def on_step(step: int) -> None:
            progress.update(bar, completed=step)
            if step % schedule.evaluate_every == 0:
                progress.console.print(trainer.describe())

        trainer.run(on_step)
    draw_curve(json.loads((out / "curve.json").read_text()), out / "curve.png")
    typer.echo(f"weights: {out / 'weights.safetensors'}\n{trainer.describe()}")
