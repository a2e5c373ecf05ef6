"""The network with 8-bit convolutions, to try out: it picks a little differently, and no backend
takes it by itself.

QuantizeLinear and DequantizeLinear nodes stand where TensorRT's parsers take them: symmetric,
weights by output channel, biases in float32. Linear layers stay in float32: with them in 8 bits
more picks change.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from gtpick_export.to_onnx import to_graph, write_model
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import libraries, make_tiles
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray

CALIBRATION_TILES = 32
KEPT_PERCENT = 99.99
"""Of an activation's values; the few beyond are clipped, so that the others get finer steps."""


class _Tiles(CalibrationDataReader):  # type: ignore[misc]
    """Tiles one by one, as ONNX Runtime's quantization asks for them."""

    def __init__(self, name: str, tiles: FloatArray) -> None:
        self._inputs = iter([{name: tile[None]} for tile in tiles])

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next tile, None at the end."""
        return next(self._inputs, None)


def export_int8(network: GTPick, spec: ModelSpec, path: Path) -> None:
    """Write the network with 8-bit convolutions as one ONNX file, calibrated on simulated tiles."""
    write_model(quantise(to_graph(network, spec), spec, calibration_tiles(network, spec)), spec, path)


def calibration_tiles(network: GTPick, spec: ModelSpec) -> FloatArray:
    """Simulated tiles `(n, 1, t, t)`, other ones than those that a release is judged by."""
    library, _ = libraries(None, 12, views=8)
    tiles = make_tiles(library, CALIBRATION_TILES, spec.tile_px, network.config, Conditions(), (1,))
    return tiles.images.numpy()


def quantise(model: onnx.ModelProto, spec: ModelSpec, tiles: FloatArray) -> onnx.ModelProto:
    """Quantise a float32 graph; the ranges of its activations are those on `(n, 1, t, t)` tiles."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # calibration prints its progress
        prepared, out = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            _Tiles(spec.input_name, tiles),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "CalibPercentile": KEPT_PERCENT,
            },
        )
        return onnx.load(out)
