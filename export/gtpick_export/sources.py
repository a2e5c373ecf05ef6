"""What a form is made from: trained weights, for which PyTorch answers, or an ONNX file, for which
ONNX Runtime does.
"""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from gtpick_export.finetuning import to_backend
from gtpick_export.forms import Made, check, export_form
from gtpick_export.parity import EIGHT_BITS
from gtpick_export.release import release
from gtpick_export.to_onnx import make_spec
from gtpick_model.weights import load_weights
from gtpick_rt.backends.onnx_file import half_beside
from gtpick_rt.backends.onnxruntime_cpu import OnnxRuntimeCpu
from gtpick_rt.errors import UsageError
from gtpick_rt.models.files import resolve_model
from gtpick_rt.proof.parity import Parity


def export_from(to: str, source: Path, out: Path, name: str, version: str, precision: str) -> Parity:
    """Write the form `to` of `source` to the folder `out`.

    `source` is a file of weights, or an ONNX file or the name of a model that ships; `name` and
    `version` are those of a model from weights. Raises as `export_form`, `release` and
    `half_beside` do.
    """
    check(to, out)
    if source.suffix == ".safetensors":
        return _from_weights(to, source, out, name, version, precision)
    if name:
        raise UsageError(f"--name {name}: {source} has a name; give the weights to name it anew")
    return _from_onnx(to, resolve_model(str(source)), out, precision)


def _from_weights(to: str, weights: Path, out: Path, name: str, version: str, precision: str) -> Parity:
    if not weights.is_file():
        raise UsageError(f"{weights}: there is no such file of weights")
    network, provenance = load_weights(weights)
    spec = make_spec(network, name or weights.stem, version, provenance)
    with TemporaryDirectory() as folder:
        single = runs = Path(folder) / "model.onnx"
        release(network, spec, single)
        if precision != "fp32":
            runs = single.with_suffix(f".{precision}.onnx")
            release(network, spec, runs, precision)
        return export_form(to, Made(spec, single, runs, precision), to_backend(network), out)


def _from_onnx(to: str, model: Path, out: Path, precision: str) -> Parity:
    if precision in EIGHT_BITS:
        raise UsageError(
            f"--precision {precision}: is made from weights; give weights.safetensors instead of an ONNX file"
        )
    runs = half_beside(model)[0] if precision == "fp16" else model
    reference = OnnxRuntimeCpu()
    spec = reference.open(model)
    with closing(reference):
        return export_form(to, Made(spec, model, runs, precision), reference, out)
