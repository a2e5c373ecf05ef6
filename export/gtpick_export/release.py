"""The one way out for a network: an ONNX file that was seen to answer as the network does."""

from pathlib import Path

import torch

from gtpick_export.parity import Parity, compare
from gtpick_export.to_onnx import export_onnx
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import libraries, make_tiles
from gtpick_rt.backends import open_backend
from gtpick_rt.errors import ModelError
from gtpick_rt.spec import ModelSpec


def release(network: GTPick, spec: ModelSpec, out: Path) -> Parity:
    """Export to `out`, which stays as it was unless the export answers simulated tiles as PyTorch does.

    Raises ModelError: it does not; then the export is kept beside `out`, hidden.
    """
    unproven = out.with_name(f".{out.name}.unproven")
    export_onnx(network, spec, unproven)
    library, _ = libraries(None, 12, views=8)
    tiles = make_tiles(library, 16, spec.tile_px, network.config, Conditions(), (0,), torch.device("cpu"))
    backend, spec = open_backend("cpu", unproven)
    parity = compare(network, backend, spec, tiles.images.numpy())
    if not parity.holds:
        raise ModelError(f"{unproven} does not answer as PyTorch does and is not released: {parity}")
    unproven.replace(out)
    return parity
