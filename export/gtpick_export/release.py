"""The one way out for a network: an ONNX file that was seen to answer as the network does."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from gtpick_export.fp8 import export_fp8
from gtpick_export.half import export_half
from gtpick_export.int8 import export_int8
from gtpick_export.parity import answers_alike, compare
from gtpick_export.to_onnx import export_onnx
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import libraries, make_tiles
from gtpick_rt.errors import ModelError
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.opening import open_backend
from gtpick_rt.proof.parity import Parity

EXPORTS: dict[str, Callable[[GTPick, ModelSpec, Path], None]] = {
    "fp32": export_onnx,
    "fp16": export_half,
    "int8": export_int8,
    "fp8": export_fp8,
}
"""How to write a network in each precision."""
TILES = 64


def release(
    network: GTPick,
    spec: ModelSpec,
    out: Path,
    precision: str = "fp32",
    on_tile: Callable[[int, int], None] = lambda done, of: None,
) -> Parity:
    """Export to `out`, which stays as it was unless the export picks simulated tiles as PyTorch
    does in float32; `on_tile` is told of those compared, and of how many there are.

    Raises ModelError: it does not, or the network picks nothing there; then the export is kept
    beside `out`, hidden.
    """
    unproven = out.with_name(f".{out.name}.unproven")
    EXPORTS[precision](network, spec, unproven)
    library, _ = libraries(None, 12, views=8)
    tiles = make_tiles(library, TILES, spec.tile_px, network.config, Conditions(), (0,), torch.device("cpu"))
    backend, spec = open_backend("cpu", unproven)
    with closing(backend):
        parity = compare(network, backend, spec, tiles.images.numpy(), on_tile)
    if not parity.reference_picks:
        raise ModelError(
            f"{unproven} is not released: the network picks nothing on {TILES} simulated tiles at its threshold of "
            f"{spec.threshold:.3f}, which proves nothing; train it longer"
        )
    if not answers_alike(parity, precision):
        raise ModelError(f"{unproven} does not answer as PyTorch does and is not released: {parity}")
    unproven.replace(out)
    return parity
