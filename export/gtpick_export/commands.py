"""`gtpick-rt export` and `gtpick-rt finetune`. PyTorch and ONNX are imported only when a command runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gtpick_rt.cli.options import PixelSize, finite

PROCEDURALS = 60
"""Particles between which fine-tuning puts the user's own."""


def export(
    weights: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="weights.safetensors of a training run.")
    ],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    name: Annotated[str, typer.Option(help="Name of the model, shown in every result.")] = "",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
) -> None:
    """Export trained weights to one ONNX file, if it answers as the trained network does."""
    from gtpick_export.release import release
    from gtpick_export.to_onnx import make_spec
    from gtpick_model.weights import load_weights

    network, provenance = load_weights(weights)
    spec = make_spec(network, name or out.stem, version, provenance)
    parity = release(network, spec, out)
    size = out.stat().st_size / 1e6
    typer.echo(f"{out}: {size:.1f} MB, opset 18, dynamic batch, default threshold {spec.threshold:.3f}")
    typer.echo(f"parity with PyTorch on {parity}")


def finetune(
    micrographs: Annotated[
        list[str], typer.Argument(metavar="MICROGRAPH", help="1 to 10 labelled micrographs, as `gtpick-rt pick`.")
    ],
    labels: Annotated[
        Path,
        typer.Option(
            exists=True,
            help="Your picks on them: a folder of .star, .csv, .box or .cbox files of the micrographs' names, the one "
            "file of a single micrograph, or a list of many.",
        ),
    ],
    diameter: Annotated[float, typer.Option(min=0, callback=finite, help="Particle diameter in Å, as for `pick`.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The model to write: `gtpick-rt pick --model` takes it.")],
    pixel_size: PixelSize = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Every particle is labelled: learn whatever is not as background. Without this, what looks like a "
            "particle that was passed over is not learned at all.",
        ),
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="weights.safetensors to start from; else the shipped ones."),
    ] = None,
) -> None:
    """Adapt the network to your own picks on a few micrographs, in minutes on two cores, and write it as an ONNX model.

    The last fifth of the micrographs, at least one, are held out, of a single one the last quarter: on them the network
    is compared before and after.
    """
    from gtpick_export import finetuning
    from gtpick_export.release import release
    from gtpick_export.to_onnx import make_spec
    from gtpick_model.finetune import PACE, adapt
    from gtpick_model.tiles import libraries
    from gtpick_model.weights import load_weights
    from gtpick_rt.picker import Picker
    from gtpick_rt.survey import readable, spread, survey

    start = weights or finetuning.shipped_weights()
    network, trained = load_weights(start)
    spec = make_spec(network, start.stem, "1", trained)
    jobs = finetuning.find_labelled(micrographs, pixel_size)
    backend = finetuning.to_backend(network, spec)
    starting = Picker(backend, spec, diameter, survey(backend, spec, readable(spread(jobs)), diameter).contrast)
    known, held_out = finetuning.load(jobs, labels, starting)
    seen, before = finetuning.find(starting, known), finetuning.find(starting, held_out)
    share = 1.0 if complete else finetuning.labelled_share(seen)
    learned = finetuning.provenance(start, known, share)
    typer.echo(
        f"learning from {learned['labels']} labels, about {share:.0%} of the particles, on {learned['micrographs']}"
    )
    images = finetuning.to_learn(known, seen, spec, share)
    library, _ = libraries(None, PROCEDURALS, views=24)
    with _progress(PACE.steps) as on_step:
        adapted = adapt(network, images, library, on_step, PACE)
    tuned = Picker(finetuning.to_backend(adapted, spec), spec, diameter, starting.contrast)
    after = finetuning.find(tuned, held_out)
    parity = release(adapted, finetuning.tuned_spec(spec, out.stem, learned), out)
    part = "the last quarter of " if len(jobs) == 1 else ""
    judges = ", ".join(each.name for each in held_out)
    typer.echo(f"held out, every pick without a label counted as wrong: {part}{judges}")
    typer.echo(f"before  {finetuning.describe(before, spec.threshold)}")
    typer.echo(f"after   {finetuning.describe(after, spec.threshold)}")
    typer.echo(f"{out}: parity with PyTorch on {parity}")


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr; where that is no terminal, a line after every tenth of the steps."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("fine-tuning", total=steps)

        def on_step(step: int) -> None:
            progress.update(bar, completed=step)
            if not progress.console.is_terminal and step % max(1, steps // 10) == 0:
                progress.console.print(f"step {step} of {steps}")

        yield on_step
