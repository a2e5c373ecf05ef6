"""`gtpick-rt export`, `gtpick-rt finetune` and `gtpick-rt adapt`.

PyTorch and ONNX are imported only when a command runs.
"""

import json
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtpick_rt.cli.options import Diameter, PixelSize, diameter_in_A, finite
from gtpick_rt.records import counted

if TYPE_CHECKING:
    from gtpick_model.network import GTPick
    from gtpick_rt.models.spec import ModelSpec

NEEDED = ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime")
"""Of the extra train; `gtpick-rt` says so before anything else where one is missing."""
PROCEDURALS = 60
"""Particles between which fine-tuning puts the user's own."""

Start = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, metavar="FILE", help="weights.safetensors to start from; else the shipped ones."
    ),
]


def export(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="weights.safetensors of a training run; with --to also an ONNX model, by its path or name.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The ONNX file to write: model.onnx in fp32, beside it model.fp16.onnx or model.int8.onnx. With --to "
            "a new folder.",
        ),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of a model from weights, shown in every result.")
    ] = "",
    version: Annotated[str, typer.Option(metavar="VERSION", help="Version of a model from weights.")] = "1",
    precision: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="fp32, which every backend is measured by; fp16, which GPUs run; int8 or fp8, to try out.",
        ),
    ] = "fp32",
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="Write a folder for other programs: onnx, triton, triton-plan, engine or openvino, with proof and "
            "checksums.",
        ),
    ] = None,
    parity: Annotated[
        bool, typer.Option("--parity", help="Also compare every backend that is here with the CPU in fp32.")
    ] = False,
) -> None:
    """Export trained weights to one ONNX file, if it answers as the trained network does; or a
    model to the form that a server or an engine takes, if that picks a sample as the model does.
    """
    import onnx

    from gtpick_export.half import half_share
    from gtpick_export.release import EXPORTS, release
    from gtpick_export.to_onnx import make_spec
    from gtpick_model.weights import load_weights
    from gtpick_rt.errors import UsageError
    from gtpick_rt.files.atomic import make_writable

    if precision not in EXPORTS:
        raise UsageError(f"no precision {precision!r}; choose one of {', '.join(EXPORTS)}")
    make_writable(out.parent)
    if to is not None:
        from gtpick_export.sources import export_from

        typer.echo(f"{out}: {export_from(to, weights, out, name, version, precision)}")
        return
    if not weights.is_file():
        raise UsageError(f"{weights}: there is no such file of weights")
    network, provenance = load_weights(weights)
    model = out.with_name(f"{out.stem.removesuffix(f'.{precision}')}.onnx")
    written = model if precision == "fp32" else model.with_suffix(f".{precision}.onnx")
    spec = make_spec(network, name or model.stem, version, provenance)
    found = release(network, spec, written, precision)
    model_there, size = onnx.load(written), written.stat().st_size / 1e6
    opset = model_there.opset_import[0].version
    typer.echo(f"{written}: {size:.1f} MB, opset {opset}, dynamic batch, default threshold {spec.threshold:.2f}")
    if precision == "fp16":
        typer.echo(f"{half_share(model_there):.0%} of its floating-point tensors are in half precision")
    typer.echo(f"compared with PyTorch on {found}")
    if parity:
        from gtpick_export.all_backends import compare_backends

        compare_backends(model, written, precision)


def finetune(
    micrographs: Annotated[
        list[str], typer.Argument(metavar="MICROGRAPH", help="1 to 10 labelled micrographs, as `gtpick-rt pick`.")
    ],
    labels: Annotated[
        Path,
        typer.Option(
            exists=True,
            metavar="PATH",
            help="Your picks on them: a folder of .star, .csv, .box or .cbox files of the micrographs' names, the one "
            "file of a single micrograph, or a list of many: .star, Topaz's .txt, cryoSPARC's .cs.",
        ),
    ],
    diameter: Annotated[
        float, typer.Option(min=0, metavar="Å", callback=finite, help="Particle diameter in Å, as for `pick`.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            dir_okay=False,
            metavar="FILE",
            help="The model to write: `gtpick-rt pick --model` takes it. Beside it are model.fp16.onnx, for GPUs, and "
            "model.safetensors, the weights.",
        ),
    ],
    pixel_size: PixelSize = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MICROGRAPH",
            help="A micrograph of the same specimen without labels, or a folder of them, to learn from too; may be "
            "given several times.",
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Every particle is labelled: learn whatever is not as background. Without this, what looks like a "
            "particle that was passed over is not learned at all.",
        ),
    ] = False,
    weights: Start = None,
) -> None:
    """Adapt the network to your own picks on a few micrographs, in minutes on two cores, and write
    it as an ONNX model.

    The last fifth of the micrographs, at least one, are held out, of a single one the last quarter:
    on them the network is compared before and after.
    """
    from gtpick_export.showing import progress
    from gtpick_rt.files.atomic import make_writable

    make_writable(out.parent)
    with progress() as tell:
        tell("loading PyTorch and the network")
        from gtpick_export import finetuning
        from gtpick_export.to_onnx import make_spec
        from gtpick_model.finetune import PACE
        from gtpick_model.labelled import share_with_label
        from gtpick_model.tiles import libraries
        from gtpick_model.weights import load_weights
        from gtpick_rt.arrivals.sampling import Sample, spread
        from gtpick_rt.detection.picker import Picker
        from gtpick_rt.detection.survey import survey
        from gtpick_rt.reading.micrographs import read_micrograph

        start = weights or finetuning.shipped_weights()
        network, trained = load_weights(start)
        spec = make_spec(network, start.stem, "1", trained)
        jobs = finetuning.find_micrographs(micrographs, pixel_size)
        more = finetuning.find_micrographs(unlabelled, pixel_size) if unlabelled else []
        tell(f"looking at {counted(len(jobs), 'micrograph')} to tell dark particles from bright ones")
        backend = finetuning.to_backend(network)
        starting = Picker(backend, spec, diameter, survey(backend, spec, Sample(spread(jobs)), diameter).contrast)
        known, held_out = finetuning.load(jobs, labels, starting)
        on_each = partial(tell, "picking with the network as it is, micrograph")
        seen, before = finetuning.find(starting, known, on_each), finetuning.find(starting, held_out)
        share = 1.0 if complete else share_with_label(seen.curve)
        others = [starting.prepare(read_micrograph(job.path, job.pixel_size_A)) for job in more]
        learned = finetuning.provenance(start, known, share, len(others))
    part = "the last quarter of " if len(jobs) == 1 else ""
    typer.echo(
        f"held out, every pick without a label counted as wrong: {part}{', '.join(each.name for each in held_out)}"
    )
    typer.echo(finetuning.told(learned, None if complete else share))
    with progress() as tell:
        tell("simulating particles to learn between")
        images = finetuning.to_learn(known, seen, spec, share)
        library, _ = libraries(None, PROCEDURALS, views=24)
        on_step = partial(tell, "fine-tuning, step")
        adapted = finetuning.learn(network, images, others, spec, library, on_step, PACE)
        tell("picking what was held out")
        after = finetuning.find(Picker(finetuning.to_backend(adapted), spec, diameter, starting.contrast), held_out)
    typer.echo(f"before  {finetuning.describe(before, spec.threshold)}")
    typer.echo(f"after   {finetuning.describe(after, spec.threshold)}")
    _write(adapted, finetuning.tuned_spec(spec, out.stem, learned), out)
    typer.echo(finetuning.advise(before.at(spec.threshold).f1, after.at(spec.threshold).f1, out))


def adapt(
    micrographs: Annotated[
        list[str],
        typer.Argument(
            metavar="MICROGRAPH", help="Micrographs of one specimen, as `gtpick-rt pick`; 12 are looked at."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            dir_okay=False,
            metavar="FILE",
            help="The model to write: `gtpick-rt pick --model` takes it. Beside it are model.fp16.onnx, for GPUs, "
            "model.safetensors, the weights, and model.json, which tells the picks and their median score on each "
            "micrograph, before and now.",
        ),
    ],
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="MINUTES", callback=finite, help="Time to learn; with less there are fewer steps."
        ),
    ] = 5.0,
    weights: Start = None,
) -> None:
    """Adapt the network to a specimen without labels, in minutes on two cores, and write it as an
    ONNX model.

    What the network is sure of teaches it what the particles look like there, and the rest what ice
    and noise look like. Nothing is written where the micrographs do not show particles, or when the
    adapted network loses what was sure before.
    """
    from gtpick_export.showing import progress
    from gtpick_rt.files.atomic import make_writable, write_atomic

    make_writable(out.parent)
    with progress() as tell:
        tell("loading PyTorch and the network")
        from gtpick_export.adapting import MOST, adapt_to
        from gtpick_export.finetuning import find_micrographs, shipped_weights
        from gtpick_rt.arrivals.sampling import Sample, spread

        jobs = list(islice(spread(find_micrographs(micrographs, pixel_size)), MOST))
        tell(f"looking at {counted(len(jobs), 'micrograph')}")
        on_step = partial(tell, "adapting, step")
        adapted = adapt_to(
            Sample(jobs), weights or shipped_weights(), diameter_in_A(diameter), on_step, seconds=60 * minutes
        )
    typer.echo(f"learned from {counted(len(adapted.names), 'micrograph')}, particles of {adapted.diameter_A:.0f} Å")
    changes = adapted.changes
    before, now = (sum(counts) for counts in zip(*(each.picks for each in changes), strict=True))
    typer.echo(f"picks on them: {before:,} before, {now:,} now, with {adapted.kept:.1%} of what was sure before")
    _write(adapted.network, replace(adapted.spec, name=out.stem), out)
    write_atomic(out.with_suffix(".json"), json.dumps([asdict(each) for each in changes], indent=1).encode())
    typer.echo(f"pick with --model {out}, and compare the picks with those of the model as it was")


def _write(network: "GTPick", spec: "ModelSpec", out: Path) -> None:
    """Keep the weights beside `out`, then export to it and, where half precision holds, to the file
    for GPUs.
    """
    from gtpick_export.to_onnx import trained_as
    from gtpick_model.weights import save_weights
    from gtpick_rt.errors import ModelError
    from gtpick_rt.models.files import HALF_SUFFIX

    weights = out.with_suffix(".safetensors")
    save_weights(weights, network, trained_as(spec))
    typer.echo(f"{weights}: the weights, for gtpick-rt export and for --weights")
    _release(network, spec, out)
    try:
        _release(network, spec, out.with_name(out.stem + HALF_SUFFIX), "fp16")
    except ModelError as error:
        typer.echo(f"GPUs cannot run this model, for it is not to be had in half precision: {error}", err=True)


def _release(network: "GTPick", spec: "ModelSpec", out: Path, precision: str = "fp32") -> None:
    from gtpick_export.release import release
    from gtpick_export.showing import progress

    with progress() as tell:
        tell(f"writing {out.name}")
        parity = release(network, spec, out, precision, partial(tell, f"comparing {out.name} with the network, tile"))
    typer.echo(f"{out}: compared with PyTorch on {parity}")
