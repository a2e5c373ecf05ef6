"""`gtpick-rt export`. PyTorch and ONNX are imported only when the command runs."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="weights.safetensors of a training run.")
    ],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    name: Annotated[str, typer.Option(help="Name of the model, shown in every result.")] = "",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
) -> None:
    """Export trained weights to one ONNX file, if it answers as the trained network does."""
    import torch

    from gtpick_export.parity import compare
    from gtpick_export.to_onnx import export_onnx, make_spec
    from gtpick_model.simulator.field import Conditions
    from gtpick_model.tiles import libraries, make_tiles
    from gtpick_model.weights import load_weights
    from gtpick_rt.backends import open_backend
    from gtpick_rt.errors import ModelError

    network, provenance = load_weights(weights)
    spec = make_spec(network, name or out.stem, version, provenance)
    unproven = out.with_name(f".{out.name}.unproven")
    export_onnx(network, spec, unproven)
    library, _ = libraries(None, 12, views=8)
    tiles = make_tiles(library, 16, spec.tile_px, network.config, Conditions(), (0,), torch.device("cpu"))
    backend, spec = open_backend("cpu", unproven)
    parity = compare(network, backend, spec, tiles.images.numpy())
    if not parity.holds:
        raise ModelError(f"{unproven} does not answer as PyTorch does and is not released: {parity}")
    unproven.replace(out)
    size = out.stat().st_size / 1e6
    typer.echo(f"{out}: {size:.1f} MB, opset 18, dynamic batch, default threshold {spec.threshold:.3f}")
    typer.echo(f"parity with PyTorch on {parity}")
