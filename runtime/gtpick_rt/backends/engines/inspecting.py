"""What an engine is made of: its layers, their precision, and whether that is what the file
describes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtpick_rt.backends.engines.libraries import LibraryName, garbage_waits, library, logger
from gtpick_rt.backends.engines.profiles import Shapes
from gtpick_rt.errors import BackendError
from gtpick_rt.models.files import HALF_SUFFIX

MIN_HALF_SHARE = 0.5
"""Of a model in half precision; less is a file that only claims to be one."""


@dataclass(frozen=True)
class Layer:
    """One layer of a parsed network."""

    name: str
    kind: str
    outputs: dict[str, str]
    """Precision of each tensor that it makes: HALF, FLOAT, INT64 ..."""
    interpolation: str | None = None
    """NEAREST, LINEAR or CUBIC, of layers that interpolate."""


def network_layers(trt: Any, network: Any) -> list[Layer]:
    """List the layers of a network in their order."""
    return [_layer(trt, network.get_layer(i)) for i in range(network.num_layers)]


def _layer(trt: Any, layer: Any) -> Layer:
    kind = layer.type.name
    tensors = [layer.get_output(i) for i in range(layer.num_outputs)]
    outputs = {tensor.name: tensor.dtype.name for tensor in tensors}
    return Layer(layer.name, kind, outputs, _interpolation(trt, layer))


def _interpolation(trt: Any, layer: Any) -> str | None:
    """The bindings give every layer as its base class, which does not know."""
    if layer.type == trt.LayerType.RESIZE:
        layer.__class__ = trt.IResizeLayer
        return str(layer.resize_mode.name)
    if layer.type == trt.LayerType.GRID_SAMPLE:
        layer.__class__ = trt.IGridSampleLayer
        return str(layer.interpolation_mode.name)
    return None


def half_share(layers: Sequence[Layer]) -> float:
    """Share of the floating-point tensors that are in half precision."""
    types = [precision for layer in layers for precision in layer.outputs.values()]
    floats = sum(types.count(each) for each in ("HALF", "FLOAT", "BF16"))
    return types.count("HALF") / floats if floats else 0.0


def check(model: Path, network: Any, layers: Sequence[Layer], profile: Shapes) -> None:
    """Raise BackendError unless the network takes and gives what the profile is for, and is read as
    its file means it.
    """
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    for tensor in (*inputs, *outputs):
        if not profile.fits(tensor.name, tensor.shape, tensor.dtype.name):
            raise BackendError(
                f"{model}: tensor {tensor.name!r} should be {profile.wants}, got {tensor.dtype.name} "
                f"{tuple(tensor.shape)}"
            )
    share = half_share(layers)
    if model.name.endswith(HALF_SUFFIX) and share < MIN_HALF_SHARE:
        raise BackendError(
            f"{model}: only {share:.0%} of its floating-point tensors are in half precision; export it again: "
            "gtpick-rt export --precision fp16"
        )
    for layer in layers:
        # A linear mode that a parser does not know by its newer name becomes nearest, and picks
        # move without an error.
        if layer.kind == "GRID_SAMPLE" and layer.interpolation == "NEAREST":
            raise BackendError(f"{model}: node {layer.name!r} would sample without interpolation; export with opset 18")


@garbage_waits()
def engine_layers(name: LibraryName, plan: bytes) -> list[Any]:
    """Ask the library for the layers of a built engine, as fused, each with its precisions.

    Needs the GPU.

    The plan must be one that was built here: reading it runs it. Raises BackendError.
    """
    trt = library(name)
    log = logger(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(f"{name} cannot load the engine that it built: {log.taken()}")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers: list[Any] = json.loads(text)["Layers"]
    return layers
